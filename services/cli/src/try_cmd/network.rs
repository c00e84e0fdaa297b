//! A Gate17 network in a box: nodes, each in a network namespace of its own with a link to the playground internet, and a
//! map of them, founded and signed by the commands that any operator uses.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{
    janitor,
    shell::{find, ip, run},
    world::{add_namespace, inside},
};

const START: Duration = Duration::from_secs(30);
/// Each way, on each link, where the kernel can.
const DISTANCE_MS: u64 = 5;
/// Where exits lead to: the playground's addresses, which are of documents, and not of the internet.
const EXIT: &str = "exit = [{ allow = true, to = '203.0.113.0/24', ports = '*' }, { allow = true, to = '2001:db8:17::/64', ports = '*' }]\n";

/// Name, region, whether it is an exit. Each has a family, and a network (/16), of its own.
const NODES: [(&str, &str, bool); janitor::NODES.len()] = {
    let [alpha, beta, gamma, delta, epsilon] = janitor::NODES;
    [
        (alpha, "de", false),
        (beta, "fr", false),
        (gamma, "it", false),
        (delta, "nl", true),
        (epsilon, "se", true),
    ]
};

/// The nodes, which end with it.
pub(super) struct Nodes {
    running: Vec<Child>,
    /// What its operator typed.
    commands: Vec<String>,
    /// What the last of them said.
    said: String,
    has_distance: bool,
}

/// One of them.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) region: &'static str,
    pub(super) is_exit: bool,
    number: usize,
}

impl Node {
    /// In the order in which they were taken in.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let nodes = NODES.into_iter().enumerate();
        nodes.map(|(number, (name, region, is_exit))| Self {
            name,
            region,
            is_exit,
            number,
        })
    }

    /// Its address, without the last octet.
    fn net(&self) -> String {
        format!("10.{}.0", 101 + self.number)
    }

    pub(super) fn address(&self) -> String {
        format!("{}.2", self.net())
    }
}

impl Nodes {
    /// Makes them in a world with a playground, and gives `config` (laid out like `/etc/portmaster`) the map and whom to
    /// believe; returns when all listen.
    pub(super) async fn open(world: &str, internet: &str, folder: &Path, config: &Path) -> Result<Self> {
        let program = crate::place::program("portmaster-gate17-node")?;
        let mut has_distance = true;
        // other than the addresses of the playground, these are passed on
        run(inside(internet, "sh").args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])).await?;
        for node in Node::all() {
            has_distance &= connect(world, internet, &node).await?;
        }
        let mut operator = Operator::new(folder)?;
        operator.types("network init", &["--name", "box"]).await?;
        for node in Node::all() {
            let place = settle(world, folder, &node)?;
            let descriptor = place.join("descriptor.toml");
            let said = run(command(world, &program, &node, folder)
                .arg("--print-descriptor")
                .env("NO_COLOR", "1"))
            .await?;
            fs::write(&descriptor, said).with_context(|| format!("write {}", descriptor.display()))?;
            let (descriptor, address) = (
                descriptor.display().to_string(),
                format!("{}:443", node.address()),
            );
            let mut words = vec![
                "--id",
                node.name,
                "--descriptor",
                &descriptor,
                "--address",
                &address,
            ];
            words.extend(["--region", node.region, "--relay"]);
            words.extend(node.is_exit.then_some("--exit"));
            operator.types("node add", &words).await?;
        }
        let said = operator.types("map sign", &[]).await?;
        operator.give(config)?;
        let mut running = Vec::new();
        for node in Node::all() {
            let place = place(folder, &node);
            operator.give(&place.join("etc/portmaster"))?;
            let log = File::create(place.join("log")).context("make a log")?;
            let mut command = command(world, &program, &node, folder);
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0);
            running.push(
                command
                    .spawn()
                    .with_context(|| format!("start node {}", node.name))?,
            );
        }
        listening(world, &mut running, folder).await?;
        Ok(Self {
            running,
            commands: operator.typed,
            said,
            has_distance,
        })
    }

    /// Kills one, as a power cut does; false where there is none of that name.
    pub(super) fn lose(&self, name: &str) -> bool {
        let mut nodes = Node::all().zip(&self.running);
        let pid = nodes
            .find(|(node, _)| node.name == name)
            .and_then(|(_, child)| Pid::from_raw(child.id()?.cast_signed()));
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }

    /// Who they are and how they came to be, for people.
    pub(super) fn shown(&self, world: &str) -> String {
        let mut text =
            String::from("Five nodes, each in a network namespace of its own, with a link of its own:\n");
        for node in Node::all() {
            let does = if node.is_exit { "relay, exit" } else { "relay" };
            text += &format!(
                "    {:<9} {}  {does:<12} {}:443  {}\n",
                node.name,
                node.region,
                node.address(),
                namespace(world, &node)
            );
        }
        text += &if self.has_distance {
            format!("Each link takes {DISTANCE_MS} ms each way (netem).\n")
        } else {
            "There is no distance between them: this kernel has no netem.\n".to_owned()
        };
        text += "They are a network because of\n";
        for command in &self.commands {
            text += &format!("    {command}\n");
        }
        text + "    " + &self.said
    }
}

fn namespace(world: &str, node: &Node) -> String {
    format!("portmaster-{world}-{}", node.name)
}

fn place(folder: &Path, node: &Node) -> PathBuf {
    folder.join("nodes").join(node.name)
}

/// A cable to the router; whether it takes time.
async fn connect(world: &str, internet: &str, node: &Node) -> Result<bool> {
    let (home, net, link) = (namespace(world, node), node.net(), format!("node{}", node.number));
    let net6 = format!("fd17:{}:", 101 + node.number);
    add_namespace(&home).await?;
    for words in [
        format!("-n {home} link add up0 type veth peer name {link} netns {internet}"),
        format!("-n {home} link set up0 up"),
        format!("-n {internet} link set {link} up"),
        format!("-n {home} address add {net}.2/24 dev up0"),
        format!("-n {home} address add {net6}:2/64 dev up0 nodad"),
        format!("-n {internet} address add {net}.1/24 dev {link}"),
        format!("-n {internet} address add {net6}:1/64 dev {link} nodad"),
        format!("-n {home} route add default via {net}.1"),
        format!("-n {home} -6 route add default via {net6}:1"),
    ] {
        run(&mut ip(&words)).await?;
    }
    let Some(tc) = find("tc") else {
        return Ok(false);
    };
    let mut takes_time = true;
    for (namespace, link) in [(home.as_str(), "up0"), (internet, link.as_str())] {
        let delay = format!("{DISTANCE_MS}ms");
        let mut tc = inside(namespace, &tc);
        tc.args(["qdisc", "add", "dev", link, "root", "netem", "delay", &delay]);
        takes_time &= run(&mut tc).await.is_ok();
    }
    Ok(takes_time)
}

/// A node's folder, with its configuration.
fn settle(world: &str, folder: &Path, node: &Node) -> Result<PathBuf> {
    let place = place(folder, node);
    let config = place.join("etc/portmaster");
    fs::create_dir_all(&config).with_context(|| format!("make {} for {world}", config.display()))?;
    let exit = if node.is_exit { EXIT } else { "" };
    let text = format!(
        "listen = ['{}:443']\nresolver = '203.0.113.53:53'\nthreads = 1\n{exit}",
        node.address()
    );
    fs::write(config.join("gate17-node.toml"), text).context("write gate17-node.toml")?;
    Ok(place)
}

fn command(world: &str, program: &Path, node: &Node, folder: &Path) -> Command {
    let mut command = inside(&namespace(world, node), program);
    command.arg("--root").arg(place(folder, node));
    for name in [
        "NOTIFY_SOCKET",
        "DBUS_SYSTEM_BUS_ADDRESS",
        "PORTMASTER_ROOT",
        "PORTMASTER_CONFIG_DIR",
        "PORTMASTER_RUNTIME_DIR",
        "PORTMASTER_STATE_DIR",
    ] {
        command.env_remove(name);
    }
    command
}

async fn listening(world: &str, running: &mut [Child], folder: &Path) -> Result<()> {
    let all = async {
        for (node, child) in Node::all().zip(running) {
            let namespace = namespace(world, &node);
            while !run(inside(&namespace, "ss").arg("-Hltn"))
                .await?
                .contains(":443 ")
            {
                if let Some(status) = child.try_wait().context("watch a node")? {
                    let log = fs::read_to_string(place(folder, &node).join("log")).unwrap_or_default();
                    bail!("node {} ended with {status}: {}", node.name, log.trim());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    };
    timeout(START, all).await.context("the nodes do not listen")?
}

/// Whoever founds the network: our own command line.
struct Operator {
    own: PathBuf,
    dir: PathBuf,
    typed: Vec<String>,
}

impl Operator {
    fn new(folder: &Path) -> Result<Self> {
        Ok(Self {
            own: std::env::current_exe().context("find our own program")?,
            dir: folder.join("network"),
            typed: Vec::new(),
        })
    }

    async fn types(&mut self, what: &str, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.own);
        command.arg("gate17").args(what.split_whitespace()).arg(&self.dir);
        command.args(words).env("NO_COLOR", "1");
        let said = run(&mut command).await?;
        let short = |word: &&str| word.rsplit_once("/descriptor.toml").is_none();
        let words: Vec<_> = words
            .iter()
            .map(|word| if short(word) { word } else { "FILE" })
            .collect();
        self.typed.push(
            format!("portmaster gate17 {what} DIR {}", words.join(" "))
                .trim()
                .to_owned(),
        );
        Ok(said)
    }

    /// To a node, or to a host that uses the network.
    fn give(&self, config: &Path) -> Result<()> {
        fs::create_dir_all(config).with_context(|| format!("make {}", config.display()))?;
        for file in ["trust.json", "map.json"] {
            let to = config.join(format!("gate17-{file}"));
            fs::copy(self.dir.join(file), &to).with_context(|| format!("write {}", to.display()))?;
        }
        Ok(())
    }
}
