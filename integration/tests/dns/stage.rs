//! A world with a DNS service, a name server on the internet, and programs that ask.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use integration::{NameServer, Service, World, world::INTERNET_V4, world::INTERNET_V6};

/// Somebody else's resolver, which nobody listens at.
pub(super) const ELSEWHERE_V4: &str = "203.0.113.53";
pub(super) const ELSEWHERE_V6: &str = "2001:db8:17::53";

pub(super) struct Stage {
    pub(super) world: World,
    pub(super) nameserver: NameServer,
}

/// Names that the internet knows.
fn records() -> Vec<String> {
    let [a, b] = [INTERNET_V4.to_string(), INTERNET_V6.to_string()];
    let mut records = Vec::new();
    for name in [
        "fine.example",
        "other.example",
        "ads.example",
        "www.fine.example",
        "second.example",
    ] {
        records.push(format!("address=/{name}/{a}"));
        records.push(format!("address=/{name}/{b}"));
    }
    records.push("cname=mask.example,ads.example".to_owned());
    records.push(format!("host-record=ads.example,{a}"));
    records.push("address=/inside.example/192.168.17.1".to_owned());
    records.push("txt-record=fine.example,hello".to_owned());
    records
}

impl Stage {
    /// `settings` are added to dns.toml.
    pub(super) fn new(label: &str, profiles: &[(&str, String)], settings: &str) -> Self {
        Self::with_lists(label, profiles, settings, &[])
    }

    pub(super) fn with_lists(
        label: &str,
        profiles: &[(&str, String)],
        settings: &str,
        lists: &[(&str, &str)],
    ) -> Self {
        let upstream = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n{settings}\n");
        let mut builder = World::builder(label)
            .config_file("dns.toml", &upstream)
            .with(Service::Dns);
        for (name, text) in lists {
            builder = builder.config_file(&format!("lists/{name}"), text);
        }
        for (id, text) in profiles {
            builder = builder.profile(id, text);
        }
        let world = builder.start();
        let addresses: [IpAddr; 2] = world.internet_addresses();
        let nameserver = NameServer::start(&world.internet, &addresses, &records(), world.root());
        Self { world, nameserver }
    }

    /// A program with a path of its own that can look names up: a copy of dig.
    pub(super) fn dig(&self, name: &str) -> Dig<'_> {
        Dig::new(&self.world, "/usr/bin/dig", name)
    }

    /// A copy of python, for whatever a real program does.
    pub(super) fn python(&self, name: &str, script: &str) -> std::process::Command {
        let mut command = python(&self.world, name);
        command.args(["-c", script]);
        command
    }
}

/// A copy of python, called `name`.
pub(super) fn python(world: &World, name: &str) -> std::process::Command {
    let interpreter = fs::canonicalize("/usr/bin/python3").unwrap();
    let mut command = world.host.command(program(world.root(), interpreter, name));
    command.env("PYTHONHOME", "/usr");
    command
}

/// Where [`Stage::dig`] and [`Stage::python`] put a program: for profiles.
pub(super) fn path_of(world: &World, name: &str) -> PathBuf {
    world.root().join("apps").join(name)
}

fn program(root: &Path, original: impl AsRef<Path>, name: &str) -> PathBuf {
    let folder = root.join("apps");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    if !path.exists() {
        fs::copy(original, &path).unwrap();
    }
    path
}

pub(super) struct Dig<'a> {
    world: &'a World,
    program: PathBuf,
}

/// What dig printed.
pub(super) struct Said(pub(super) String);

impl Said {
    /// NOERROR, NXDOMAIN, …; empty where nobody answered.
    pub(super) fn status(&self) -> &str {
        let after = self.0.split_once("status: ").map(|(_, after)| after);
        after
            .and_then(|after| after.split(',').next())
            .unwrap_or_default()
    }

    pub(super) fn answers(&self) -> Vec<String> {
        let section = self.0.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
        let lines = section.lines().skip(1).take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned))
            .collect()
    }
}

impl<'a> Dig<'a> {
    /// A copy of `original`, called `name`.
    pub(super) fn new(world: &'a World, original: &str, name: &str) -> Self {
        Self {
            world,
            program: program(world.root(), original, name),
        }
    }

    /// The same for a copy of kdig: what it printed.
    pub(super) fn kdig(&self, words: &[&str]) -> String {
        let mut command = self.world.host.command(&self.program);
        command.args(["+retry=0", "+time=5"]).args(words);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// `words` as on its command line.
    pub(super) fn ask(&self, words: &[&str]) -> Said {
        let mut command = self.world.host.command(&self.program);
        command.args(["+tries=3", "+time=5", "+nosearch"]).args(words);
        let output = command.output().unwrap();
        Said(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What a service counted; `name` is a word of one of them alone.
pub(super) fn counter(world: &World, name: &str) -> Option<u64> {
    let mut command = std::process::Command::new(integration::binary("portmaster"));
    command.args(["status", "--json", "--root"]).arg(world.root());
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let counted = said.split(&format!("\"{name}\":")).nth(1)?;
    let digits: String = counted.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

impl Stage {
    /// Returns once the DNS service has told a new interceptor what it knows: a name that is asked anew is told.
    pub(super) fn wait_until_linked(&self) {
        integration::eventually("the interceptor knows names", || {
            (counter(&self.world, "names_told")? > 0).then_some(())
        });
    }
}
