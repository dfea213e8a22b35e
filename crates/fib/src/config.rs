//! What a [`crate::Fib`] is compiled from, and what may be wrong with it.

use std::net::IpAddr;

use ipnet::IpNet;
use types::{EthPortId, MacAddr};

/// Everything that a [`crate::Fib`] is compiled from. The order within the lists matters in one
/// place only: of several addresses of one prefix the first is the usual source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibConfig {
    /// The interfaces that addresses and routes name.
    pub interfaces: Vec<Interface>,
    /// Addresses of ours.
    pub addresses: Vec<Address>,
    /// Routes, without those that follow from the addresses.
    pub routes: Vec<Route>,
}

/// An interface, as far as routing is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub id: EthPortId,
    /// Its name, for messages.
    pub name: String,
    /// Its Ethernet address, of which its link-local address is made.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Source of what we send by ourselves (ICMP errors). `None`, and in the other family: the first
    /// address of role [`Role::Local`] with a subnet around it, else the first of that role.
    pub primary: Option<IpAddr>,
}

/// What an address of ours is for.
///
/// One address has one role, with one exception: a [`Role::Local`] address may be given once more, on
/// the same interface, in another role (a service on the interface's own address, LIP or
/// masquerade from it). It then acts in that other role and stays an interface address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The interface's own: answers ARP or neighbour solicitations, and echo, source of ICMP errors.
    Local,
    /// Clients of services connect to it; answers ARP and echo.
    Vip,
    /// FullNAT's source towards the servers, whose replies arrive here; answers ARP and echo.
    Lip,
    /// SNAT's source towards the outside; answers ARP and echo.
    WanIp,
    /// A WAN IP that none of the addresses is: it is routed to us, or another node has it, and nothing is said of it
    /// on the link. An [`crate::Owner`] of it is a [`Role::WanIp`] that does not answer.
    RoutedWanIp,
    /// Was a VIP and is configured no more: open conns go on, and nothing new begins. Answers ARP and
    /// echo as long as there is one.
    Leaving,
}

impl Role {
    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "interface address",
            Self::Vip => "VIP",
            Self::Lip => "LIP",
            Self::WanIp | Self::RoutedWanIp => "WAN IP",
            Self::Leaving => "VIP that was removed",
        }
    }
}

/// An address of ours on an interface.
///
/// A link-local one (fe80::/10) is the interface's alone, and may be on others as well. An interface with an
/// IPv6 address and no link-local one gets that of its Ethernet address (RFC 4291 appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix that is on link with it, from 1; one shorter than an address makes a connected
    /// route.
    pub prefix_len: u8,
    /// The interface that answers for it.
    pub iface: EthPortId,
    /// What it is for.
    pub role: Role,
}

/// What a route leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// To other stations.
    #[default]
    Unicast,
    /// To ourselves: all addresses of the prefix count as addresses of role [`Role::Local`].
    Local,
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; without host bits. `0.0.0.0/0` and `::/0` are the default routes.
    pub prefix: IpNet,
    /// What it leads to.
    pub kind: RouteKind,
    /// The gateway, of the same family; `None`: the destinations are on link.
    pub via: Option<IpAddr>,
    /// Where out.
    pub iface: EthPortId,
    /// Of routes to one prefix the one with the lowest counts; connected ones have 0.
    pub metric: u32,
    /// Source of what we send by ourselves along it; one of our addresses.
    pub src: Option<IpAddr>,
    /// Largest packet in bytes, at least 68 (RFC 791 §3.2) or 1280 (RFC 8200 §5); never above the
    /// interface's.
    pub mtu: Option<u16>,
    /// Take the gateway as being on link, whatever the prefixes say.
    pub on_link: bool,
}

/// What is wrong with a [`FibConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// Two interfaces with one number.
    #[error("interface `{name}` has number {}, which `{other}` has already", .id.0)]
    DuplicateInterface {
        /// The number.
        id: EthPortId,
        /// The second one's name.
        name: String,
        /// The first one's name.
        other: String,
    },
    /// More interfaces than next hops can name.
    #[error("interface number {} is above {max}", .id.0)]
    InterfaceNumber {
        /// The number.
        id: EthPortId,
        /// The largest one.
        max: u16,
    },
    /// MTU below what RFC 791 §3.2 asks of every host, and RFC 8200 §5 of every link.
    #[error("an MTU of {mtu} for {what} is below {least}")]
    MtuTooSmall {
        /// Interface or route.
        what: String,
        /// The value in bytes.
        mtu: u16,
        /// The least that it may be.
        least: u16,
    },
    /// Address on an interface that is not there.
    #[error("address {address} is on an unknown interface (number {})", .iface.0)]
    AddressOnUnknownInterface {
        /// The address.
        address: IpAddr,
        /// The number.
        iface: EthPortId,
    },
    /// Prefix length out of 1 to 32, or 1 to 128.
    #[error("prefix length {prefix_len} of address {address} is not between 1 and {}", .address.max_len())]
    PrefixLength {
        /// The address.
        address: IpAddr,
        /// The length.
        prefix_len: u8,
    },
    /// Address that no station may have.
    #[error("{address} cannot be an address of ours: it is {what}")]
    UnusableAddress {
        /// The address.
        address: IpAddr,
        /// Why.
        what: &'static str,
    },
    /// Address given twice, in roles or on interfaces that exclude each other.
    #[error("{address} is given twice: as {} on `{first_iface}` and as {} on `{second_iface}`", .first.name(), .second.name())]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// Role first given.
        first: Role,
        /// Interface first given.
        first_iface: String,
        /// Role given again.
        second: Role,
        /// Interface given again.
        second_iface: String,
    },
    /// One connected prefix on two interfaces: neither would be the right way out.
    #[error("prefix {prefix} is on two interfaces, `{first}` and `{second}`")]
    PrefixOnTwoInterfaces {
        /// The prefix.
        prefix: IpNet,
        /// One interface.
        first: String,
        /// The other one.
        second: String,
    },
    /// Primary address that is no address of the interface, or has a role that excludes it.
    #[error("primary address {address} of `{iface}` is not one of its own addresses")]
    Primary {
        /// The address.
        address: IpAddr,
        /// The interface.
        iface: String,
    },
    /// Route by an interface that is not there.
    #[error("route to {prefix} goes by an unknown interface (number {})", .iface.0)]
    RouteByUnknownInterface {
        /// Where to.
        prefix: IpNet,
        /// The number.
        iface: EthPortId,
    },
    /// Route's prefix with bits behind its length.
    #[error("route to {prefix} has host bits set; write {}", .prefix.trunc())]
    HostBits {
        /// The prefix as given.
        prefix: IpNet,
    },
    /// Gateway that is not on link.
    #[error("gateway {via} of the route to {prefix} is not on link of `{iface}`")]
    GatewayNotOnLink {
        /// Where to.
        prefix: IpNet,
        /// The gateway.
        via: IpAddr,
        /// The interface.
        iface: String,
    },
    /// Gateway that is an address of ours, or none that a station may have.
    #[error("gateway {via} of the route to {prefix} cannot be one: it is {what}")]
    UnusableGateway {
        /// Where to.
        prefix: IpNet,
        /// The gateway.
        via: IpAddr,
        /// Why.
        what: &'static str,
    },
    /// Gateway or source of the other family than the destination.
    #[error("{address} of the route to {prefix} is of another family")]
    OtherFamily {
        /// Where to.
        prefix: IpNet,
        /// The gateway or source.
        address: IpAddr,
    },
    /// Local route with a gateway.
    #[error("local route to {prefix} cannot have a gateway ({via})")]
    LocalRouteVia {
        /// Where to.
        prefix: IpNet,
        /// The gateway.
        via: IpAddr,
    },
    /// Source hint that is no address of ours.
    #[error("source {src} of the route to {prefix} is not an address of ours")]
    SourceNotOurs {
        /// Where to.
        prefix: IpNet,
        /// The source.
        src: IpAddr,
    },
    /// Two routes to one prefix with one metric.
    #[error("two routes to {prefix} have metric {metric}")]
    DuplicateRoute {
        /// Where to.
        prefix: IpNet,
        /// The metric.
        metric: u32,
    },
}

/// The length of an address in bits, for messages.
trait MaxLen {
    fn max_len(&self) -> u8;
}

impl MaxLen for IpAddr {
    fn max_len(&self) -> u8 {
        IpNet::from(*self).max_prefix_len()
    }
}
