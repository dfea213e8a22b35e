//! `ipvsadm`: services, real servers and local addresses in the grammar of DPVS 1.10.2.

mod address;
mod conns;
mod edit;
mod list;
mod matching;
mod options;
mod save;
mod settings;
mod table;
mod usage;

use std::io::Read;

use super::missing;
use super::{Compat, Failure, Outcome};
use crate::error::CtlError;
use options::{Command, Words};

/// Runs it with its words, its name not among them.
pub(super) fn run(compat: &mut Compat<'_>, words: &[&str]) -> Outcome {
    let words = Words::parse(words)?;
    usage::check(&words)?;
    match words.command {
        Command::Add => edit::add_service(compat, &words),
        Command::Edit => edit::edit_service(compat, &words),
        Command::Delete => edit::delete_service(compat, &words),
        Command::Clear => save::clear(compat),
        Command::Restore => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|reason| CtlError::Io { file: "standard input".to_owned(), reason })?;
            save::restore(compat, &text)
        }
        Command::Save => save::save(compat, &words),
        Command::AddServer => edit::set_server(compat, &words, true),
        Command::EditServer => edit::set_server(compat, &words, false),
        Command::DeleteServer => edit::delete_server(compat, &words),
        Command::List => list::list(compat, &words),
        Command::Zero => edit::zero(compat, &words),
        Command::AddLaddr => edit::add_laddr(compat, &words),
        Command::DelLaddr => edit::del_laddr(compat, &words),
        Command::GetLaddr => conns::laddrs(compat, &words),
        Command::Help => compat.print(usage::HELP),
        Command::Version => compat.print(&format!("{}\n", usage::VERSION)),
        Command::AddBlklst
        | Command::DelBlklst
        | Command::GetBlklst
        | Command::AddWhtlst
        | Command::DelWhtlst
        | Command::GetWhtlst => refuse(words.command, missing::LISTS),
        Command::Set => refuse(words.command, missing::SET),
        Command::StartDaemon | Command::StopDaemon => refuse(words.command, missing::DAEMON),
    }
}

fn refuse(command: Command, instead: &'static str) -> Outcome {
    Err(Failure::not_supported(format!("--{}", command.name()), instead))
}
