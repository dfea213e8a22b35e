// Tells each client by HTTP who Node says it is. usage: who.js PORT
'use strict';
const server = require('node:http').createServer((request, response) => {
  const { remoteAddress, remotePort } = request.socket;
  response.end(`Your remote_addr and remote_port is ${remoteAddress}:${remotePort}\n`);
});
server.listen(Number(process.argv[2]), () => console.log('listening'));
