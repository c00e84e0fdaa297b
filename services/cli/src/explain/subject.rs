//! The program that is to be explained, as the resolver would describe its process.

use std::{
    env,
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use proto::{
    flow::v1::{Cgroup, Executable, Process},
    resolver::v1::{LookupRequest, lookup_request::Subject, process_resolver_client::ProcessResolverClient},
};
use sha2::{Digest, Sha256};

use crate::{
    args::SubjectArgs,
    place::{PlaceArgs, Service},
    users, wire,
};

/// `None`: a process that cannot be found.
pub(super) async fn process(args: &SubjectArgs, place: &PlaceArgs) -> Result<Option<Process>> {
    match args.pid {
        _ if args.unknown => Ok(None),
        Some(pid) => running(pid, place).await.map(Some),
        None => described(args).map(Some),
    }
}

/// Asks the resolver, so that the answer is about what the firewall knows.
async fn running(pid: u32, place: &PlaceArgs) -> Result<Process> {
    let mut client = ProcessResolverClient::new(place.channel(Service::ProcessResolver));
    let request = LookupRequest {
        subject: Some(Subject::Pid(pid)),
        hash: true,
    };
    let reply = place.answer(Service::ProcessResolver, client.lookup(request).await)?;
    let miss = wire::miss(reply.miss());
    reply
        .process
        .with_context(|| format!("the process resolver does not know process {pid} ({miss}): does it run?"))
}

fn described(args: &SubjectArgs) -> Result<Process> {
    let mut script = args.script.as_deref().map(absolute).transpose()?;
    let mut program = args.program.as_deref().map(find).transpose()?;
    if let (Some(path), None) = (&program, &script)
        && let Some(interpreter) = interpreter(path)
    {
        script = program.replace(find(&interpreter)?);
    }
    let cgroup = Cgroup {
        path: args.cgroup.clone().unwrap_or_default(),
        unit: args.unit.clone().unwrap_or_default(),
        flatpak: args.flatpak.clone().unwrap_or_default(),
        snap: args.snap.clone().unwrap_or_default(),
        container: args.container.clone().unwrap_or_default(),
        ..Cgroup::default()
    };
    Ok(Process {
        uid: uid(args.user.as_deref())?,
        executable: program.as_deref().map(executable).transpose()?,
        script: script.map(text).unwrap_or_default(),
        cgroup: Some(cgroup),
        ..Process::default()
    })
}

fn uid(user: Option<&str>) -> Result<u32> {
    match user {
        None => Ok(rustix::process::getuid().as_raw()),
        Some(user) => {
            users::id(user).with_context(|| format!("no user {user} in /etc/passwd: give the user id"))
        }
    }
}

/// The file itself, as a running process would name it: symbolic links followed, `curl` looked for in PATH.
fn find(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 {
        return absolute(program);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    match found {
        Some(file) => absolute(&file),
        None => bail!("no program {} in PATH: give its whole path", program.display()),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) => {
            eprintln!(
                "portmaster: {}: {error}: judged by this path alone",
                path.display()
            );
            std::path::absolute(path).with_context(|| format!("make {} absolute", path.display()))
        }
    }
}

/// What stands behind `#!`, as execve(2) and env(1) read it; `None` for a file that is no script.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut head = [0; 256];
    let length = File::open(script)
        .and_then(|mut file| file.read(&mut head))
        .ok()?;
    parse_interpreter(head.get(..length)?)
}

fn parse_interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let program = Path::new(words.next()?);
    if program.file_name()? != "env" {
        return Some(program.to_owned());
    }
    words
        .find(|word| !word.starts_with('-') && !word.contains('='))
        .map(PathBuf::from)
}

fn executable(path: &Path) -> Result<Executable> {
    let text = text(path.to_owned());
    let mut executable = Executable {
        path: text.clone(),
        claimed_path: text,
        ..Executable::default()
    };
    if let Ok(file) = fs::metadata(path) {
        (executable.device, executable.inode) = (file.dev(), file.ino());
        executable.sha256 = sha256(path)?;
    }
    Ok(executable)
}

fn sha256(path: &Path) -> Result<Vec<u8>> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file
            .read(&mut buffer)
            .with_context(|| format!("read {}", path.display()))?;
        match buffer.get(..length) {
            None | Some([]) => return Ok(hash.finalize().to_vec()),
            Some(part) => hash.update(part),
        }
    }
}

fn text(path: PathBuf) -> String {
    path.into_os_string()
        .into_string()
        .unwrap_or_else(|path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter() {
        let parse = |text: &str| parse_interpreter(text.as_bytes()).map(text_of);
        let text_of_path = |path: &str| Some(path.to_owned());
        assert_eq!(parse("#!/bin/sh\necho"), text_of_path("/bin/sh"));
        assert_eq!(
            parse("#! /usr/bin/python3 -u\n"),
            text_of_path("/usr/bin/python3")
        );
        assert_eq!(parse("#!/usr/bin/env python3\n"), text_of_path("python3"));
        assert_eq!(parse("#!/usr/bin/env -S A=1 perl -w\n"), text_of_path("perl"));
        assert_eq!(parse("\x7fELF"), None);
        assert_eq!(parse("#!\n"), None);
    }

    fn text_of(path: PathBuf) -> String {
        text(path)
    }

    #[test]
    fn a_described_program_is_the_file_behind_links() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        fs::write(folder.join("real"), "abc").unwrap();
        std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
        let path = find(&folder.join("link")).unwrap();
        let executable = executable(&path).unwrap();
        assert_eq!(executable.path, text(folder.join("real")));
        assert_eq!(executable.inode, fs::metadata(folder.join("real")).unwrap().ino());
        assert_eq!(executable.sha256.get(..4).unwrap(), [0xba, 0x78, 0x16, 0xbf]);
    }
}
