/* SPDX-License-Identifier: Apache-2.0
 *
 * The reader of options, as the kernel runs it, on lines of hexadecimal digits: for each one a line with port
 * and address in hexadecimal, or an empty one. */
#include <stdio.h>
#include <string.h>

#include "../../csrc/options.h"

int main(void)
{
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		__u8 options[OPTIONS_MAX] = {};
		struct client client;
		unsigned int byte, len = 0;

		memset(&client, 0xa5, sizeof(client));
		while (len < OPTIONS_MAX && sscanf(line + 2 * len, "%2x", &byte) == 1)
			options[len++] = byte;
		if (find_client(options, len, &client)) {
			const __u8 *bytes = (const __u8 *)&client.port;

			for (int i = 0; i < (client.family == 6 ? 18 : 6); i++)
				printf("%02x", bytes[i]);
		}
		putchar('\n');
	}
	return 0;
}
