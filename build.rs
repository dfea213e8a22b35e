//! Stamps the commit into the binaries, and writes man pages and shell completions.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap_complete::Shell;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=DPNAT_COMMIT={}", commit());
    write_pages(&share(&PathBuf::from(std::env::var("OUT_DIR")?)))
}

/// What `DPNAT_COMMIT` says, for those who build without a repository; else git's; else nothing.
fn commit() -> String {
    println!("cargo::rerun-if-env-changed=DPNAT_COMMIT");
    if let Ok(commit) = std::env::var("DPNAT_COMMIT") {
        return commit;
    }
    // The branch's own file changes with each commit, HEAD with each checkout.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default()
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// `share` beside the binaries, from where `make install` takes it.
fn share(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|path| path.file_name().is_some_and(|name| name == "build"));
    build.and_then(Path::parent).unwrap_or(out).join("share")
}

fn write_pages(share: &Path) -> Result<(), Box<dyn Error>> {
    let man = share.join("man/man1");
    fs::create_dir_all(&man)?;
    for (name, command) in [("dpctl", ctl::cli::command()), ("dptoa", toa::cli::command())] {
        clap_mangen::generate_to(command.clone(), &man)?;
        write_completions(share, name, command)?;
    }
    Ok(())
}

fn write_completions(
    share: &Path,
    name: &str,
    mut command: clap::Command,
) -> Result<(), Box<dyn Error>> {
    for (shell, dir) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        let dir = share.join(dir);
        fs::create_dir_all(&dir)?;
        clap_complete::generate_to(shell, &mut command, name, &dir)?;
    }
    // The name by which bash-completion finds it.
    let bash = share.join("bash-completion/completions");
    fs::rename(bash.join(format!("{name}.bash")), bash.join(name))?;
    Ok(())
}
