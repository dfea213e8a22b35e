//! Verbs of addresses, routes, neighbours and links.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use config::{InterfaceAddress, Prefix, RouteType};
use serde::Serialize;
use types::MacAddr;

use super::values::one_of;

/// What is done with addresses.
#[derive(Clone, Debug, Subcommand)]
pub enum AddressVerb {
    /// Show them
    #[command(visible_alias = "list")]
    Show(OnDev),
    /// Add one
    Add(AddressAdd),
    /// Remove one
    #[command(visible_alias = "delete")]
    Del(AddressDel),
}

/// Chooses an interface.
#[derive(Clone, Debug, Default, Args)]
pub struct OnDev {
    /// On this interface only
    #[arg(long, value_name = "INTERFACE")]
    pub dev: Option<String>,
}

/// A new address. Its fields are those of the API's.
#[derive(Clone, Debug, Args, Serialize)]
pub struct AddressAdd {
    /// The address and the length of its subnet's prefix; without one, the address alone
    #[arg(value_name = "ADDRESS[/LENGTH]")]
    pub address: InterfaceAddress,
    /// The interface that answers for it
    #[arg(long, value_name = "INTERFACE")]
    pub dev: String,
}

/// An address that goes.
#[derive(Clone, Debug, Args)]
pub struct AddressDel {
    /// The address
    #[arg(value_name = "ADDRESS[/LENGTH]")]
    pub address: InterfaceAddress,
    /// The interface; it may be left out
    #[arg(long, value_name = "INTERFACE")]
    pub dev: Option<String>,
}

/// What is done with routes.
#[derive(Clone, Debug, Subcommand)]
pub enum RouteVerb {
    /// Show them
    #[command(visible_alias = "list")]
    Show(RouteShow),
    /// Add one
    Add(RouteArgs),
    /// Add one, in place of that with the same destination and metric
    #[command(visible_alias = "replace")]
    Set(RouteArgs),
    /// Remove one
    #[command(visible_alias = "delete")]
    Del(RouteDel),
}

/// Chooses routes.
#[derive(Clone, Debug, Args)]
pub struct RouteShow {
    /// Out of this interface only
    #[arg(long, value_name = "INTERFACE")]
    pub dev: Option<String>,
    /// Also those to addresses of ours
    #[arg(short, long)]
    pub all: bool,
}

/// A route. Its fields are those of the API's.
#[derive(Clone, Debug, Args, Serialize)]
pub struct RouteArgs {
    /// The destination: a prefix, or `default`
    #[arg(value_name = "PREFIX|default")]
    pub to: Prefix,
    /// The router; without one, the destinations are on the link
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The interface
    #[arg(long, value_name = "INTERFACE")]
    pub dev: String,
    /// Of several routes to one destination, that with the lowest is taken [default: 0]
    #[arg(long, value_name = "NUMBER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The address of ours that packets made here have as source
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// Largest IP packet in bytes [default: the interface's]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// What it leads to: others, or with `local` ourselves [default: unicast]
    #[arg(long = "type", value_name = "unicast|local", value_parser = one_of::<RouteType>(&["unicast", "local"]))]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub route_type: Option<RouteType>,
}

/// A route that goes.
#[derive(Clone, Debug, Args)]
pub struct RouteDel {
    /// The destination: a prefix, or `default`
    #[arg(value_name = "PREFIX|default")]
    pub to: Prefix,
    /// Its metric; needed if there are several routes to the destination
    #[arg(long, value_name = "NUMBER")]
    pub metric: Option<u32>,
}

/// What is done with neighbours.
#[derive(Clone, Debug, Subcommand)]
pub enum NeighbourVerb {
    /// Show them
    #[command(visible_alias = "list")]
    Show(OnDev),
    /// Add a static one
    Add(NeighbourArgs),
    /// Add a static one, in place of that with the same address
    #[command(visible_alias = "replace")]
    Set(NeighbourArgs),
    /// Remove a static one, or forget a learned one
    #[command(visible_alias = "delete")]
    Del(NeighbourDel),
}

/// A static neighbour. Its fields are those of the API's.
#[derive(Clone, Debug, Args, Serialize)]
pub struct NeighbourArgs {
    /// Its IP address
    #[arg(value_name = "ADDRESS")]
    pub address: IpAddr,
    /// Its Ethernet address
    #[arg(long = "lladdr", visible_alias = "mac", value_name = "MAC")]
    pub mac: MacAddr,
    /// The interface behind which it is
    #[arg(long, value_name = "INTERFACE")]
    pub dev: String,
}

/// A neighbour that goes.
#[derive(Clone, Debug, Args)]
pub struct NeighbourDel {
    /// Its IP address
    #[arg(value_name = "ADDRESS")]
    pub address: IpAddr,
    /// The interface; needed if the address is known on several
    #[arg(long, value_name = "INTERFACE")]
    pub dev: Option<String>,
}

/// What is done with interfaces.
#[derive(Clone, Debug, Subcommand)]
pub enum LinkVerb {
    /// Show them
    #[command(visible_alias = "list")]
    Show(LinkShow),
    /// Add a VLAN
    Add(LinkAdd),
    /// Remove a VLAN
    #[command(visible_alias = "delete")]
    Del(LinkDel),
}

/// Chooses an interface.
#[derive(Clone, Debug, Default, Args)]
pub struct LinkShow {
    /// This one, in full
    #[arg(value_name = "INTERFACE")]
    pub name: Option<String>,
    /// The same, as `ip` has it
    #[arg(long, value_name = "INTERFACE", hide = true, conflicts_with = "name")]
    pub dev: Option<String>,
}

/// A new VLAN.
#[derive(Clone, Debug, Args)]
pub struct LinkAdd {
    /// Its name, as in `wan0.100`
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The interface that carries its frames
    #[arg(long, value_name = "INTERFACE")]
    pub link: String,
    /// What it is: a VLAN
    #[arg(long = "type", value_name = "vlan", value_parser = ["vlan"], default_value = "vlan")]
    pub kind: String,
    /// The VLAN's identifier, 1 to 4094
    #[arg(long, value_name = "NUMBER")]
    pub id: u16,
}

/// A VLAN that goes.
#[derive(Clone, Debug, Args)]
pub struct LinkDel {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
}
