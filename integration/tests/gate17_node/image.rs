//! The node's image without an engine: the root file system that the last stage of its Dockerfile describes, made on a
//! debootstrapped tree, and the node in it as the compose file has it run.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use integration::{Namespace, binary, booted::plain_tree, eventually};

use crate::{
    container_files::{compose, repository, words},
    place::{OPEN, Place, text},
};

const DOCKERFILE: &str = "docker/node.Dockerfile";
const PROGRAM: &str = "portmaster-gate17-node";

/// Instructions of a Dockerfile, with their words; continued lines are one.
pub(crate) fn instructions(file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(repository().join(file)).unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// What the last stage says.
#[derive(Default)]
pub(crate) struct Image {
    /// Shell lines that make it, below `$R`, with the programs in `$PROGRAMS` and the sources in `$REPOSITORY`.
    pub(crate) make: String,
    pub(crate) environment: Vec<String>,
    user: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) health: Vec<String>,
}

impl Image {
    pub(crate) fn read(file: &str) -> Self {
        let all = instructions(file);
        let last = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
        let mut image = Self::default();
        for (name, rest) in &all[last + 1..] {
            match name.as_str() {
                "RUN" => image.make += &format!("chroot \"$R\" sh -ec {}\n", quoted(rest)),
                "COPY" => image.copy(rest),
                "ARG" => image.make += &format!("export {rest}\n"),
                "ENV" => image.environment.extend(rest.split(' ').map(str::to_owned)),
                "USER" => image.user.clone_from(rest),
                "ENTRYPOINT" => image.entrypoint = serde_json::from_str(rest).unwrap(),
                "HEALTHCHECK" => {
                    let (_, command) = rest.split_once("CMD").unwrap();
                    image.health = serde_json::from_str(command).unwrap();
                }
                other => assert!(
                    ["LABEL", "VOLUME", "EXPOSE", "STOPSIGNAL"].contains(&other),
                    "{file}: this test knows no {other}"
                ),
            }
        }
        image
    }

    /// `--from=programs --chmod=755 /programs/NAME PLACE`; a folder's files where the source ends in `/`.
    fn copy(&mut self, rest: &str) {
        let (options, words): (Vec<_>, Vec<_>) = rest.split(' ').partition(|word| word.starts_with("--"));
        assert_eq!(words.len(), 2, "COPY {rest}");
        let (source, place) = (words[0], words[1]);
        let mode = options.iter().find_map(|option| option.strip_prefix("--chmod="));
        let source = if options.contains(&"--from=programs") {
            format!("\"$PROGRAMS\"/{}", source.strip_prefix("/programs/").unwrap())
        } else {
            format!("\"$REPOSITORY\"/{source}")
        };
        let mode = mode.unwrap_or("644");
        self.make += &if source.ends_with('/') {
            format!("install -d \"$R{place}\"\ninstall -m {mode} -t \"$R{place}\" {source}*\n")
        } else {
            format!("install -D -m {mode} {source} \"$R{place}\"\n")
        };
    }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What an engine does, by hand: an overlay over the tree, read-only from then on; mounts; the user, without anything else.
fn container(image: &Image, host: &Namespace, folder: &Path) -> Command {
    let service = &compose("docker/compose.node.yaml")["services"]["node"];
    let (uid, gid) = image.user.split_once(':').unwrap();
    let mut script = String::from(
        "mount --make-rprivate /\nmount -t tmpfs tmpfs \"$W\"\nR=$W/root\nmkdir \"$W/up\" \"$W/work\" \"$R\"\n\
         mount -t overlay overlay -o \"lowerdir=$BASE,upperdir=$W/up,workdir=$W/work\" \"$R\"\n",
    );
    script += &image.make;
    // a new volume is as the image's folder is
    script += &format!("install -d -o {uid} -g {gid} -m 700 \"$STATE\"\n");
    assert_eq!(service["read_only"], true);
    script += "mount --bind \"$R\" \"$R\"\nmount -o remount,bind,ro \"$R\"\n";
    script += "mount -t proc proc \"$R/proc\"\nmount --bind /dev \"$R/dev\"\n";
    for volume in words(&service["volumes"]) {
        let parts: Vec<_> = volume.split(':').collect();
        let from = if parts[0] == "state" { "$STATE" } else { "$CONFIG" };
        script += &format!("mount --bind \"{from}\" \"$R{}\"\n", parts[1]);
        if parts.get(2) == Some(&"ro") {
            script += &format!("mount -o remount,bind,ro \"$R{}\"\n", parts[1]);
        }
    }
    for mount in words(&service["tmpfs"]) {
        let (place, options) = mount.split_once(':').unwrap();
        script += &format!("mount -t tmpfs -o {options} tmpfs \"$R{place}\"\n");
    }
    for (name, value) in service["sysctls"].as_object().unwrap() {
        let (path, value) = (name.replace('.', "/"), value.as_str().unwrap());
        script += &format!("echo {value} >/proc/sys/{path}\n");
    }
    assert_eq!(words(&service["cap_drop"]), ["ALL"]);
    assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"]);
    script += &format!(
        "exec chroot \"$R\" setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs --inh-caps=-all \
         --bounding-set=-all -- env -i NO_COLOR=1 {} {}\n",
        image.environment.join(" "),
        image.entrypoint.join(" ")
    );
    let work = folder.join("work");
    fs::create_dir(&work).unwrap();
    let mut command = host.command("unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--",
        "sh",
        "-euc",
        &script,
    ]);
    command
        .env("W", work)
        .env("BASE", plain_tree())
        .env("PROGRAMS", binary(PROGRAM).parent().unwrap())
        .env("STATE", folder.join("state"))
        .env("CONFIG", folder.join("etc/portmaster"));
    command
}

/// As `docker exec` does, as a user.
fn inside(pid: &str, user: &str, words: &[&str]) -> Output {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--mount", "--pid", "--net", "--root", "--wd"]);
    command.args([
        "setpriv",
        "--reuid",
        user,
        "--regid",
        user,
        "--clear-groups",
        "--",
    ]);
    command.args(words).output().unwrap()
}

#[test]
fn the_image_of_a_node_serves_clients_without_any_privilege_on_a_root_that_nobody_writes() {
    let image = Image::read(DOCKERFILE);
    let place = Place::started(OPEN, |host, folder| container(&image, host, folder));
    let pid = eventually("the node runs", || {
        let pids = place.host.sh(&format!("ip netns pids {}", place.host.name()));
        let is_node = |pid: &&str| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            PROGRAM.starts_with(name.trim()) && !name.trim().is_empty()
        };
        pids.lines().find(is_node).map(str::to_owned)
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next_back().unwrap().to_owned()
    };
    assert_eq!((field("Uid:"), field("Gid:")), ("65532".into(), "65532".into()));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set} in\n{status}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");

    // root himself could not write there, let alone the node
    for path in ["/usr/bin/x", "/etc/portmaster/x", "/var/x"] {
        let said = text(&inside(&pid, "0", &["touch", path]));
        assert!(said.contains("Read-only file system"), "{path}: {said}");
    }
    let key = place.folder.path().join("state/key.pem");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&key).unwrap());
    assert_eq!(owner, 65532, "its key is its own");
    let figures = eventually("it writes its figures", || {
        let output = inside(
            &pid,
            "65532",
            &["cat", "/run/portmaster-gate17-node/metrics.prom"],
        );
        output.status.success().then(|| text(&output))
    });
    assert!(figures.contains("# EOF"), "{figures}");

    let health: Vec<_> = image.health.iter().map(String::as_str).collect();
    let well = inside(&pid, "65532", &health);
    assert!(well.status.success(), "{}", text(&well));
    let (_server, url, big) = place.files(100_000);
    let output = place.through(&[&url]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(output.stdout, fs::read(big).unwrap());
    a_network_of_five_is_founded_in_it(&pid);
}

/// What the job of the compose file does, by the same script in the same image.
fn a_network_of_five_is_founded_in_it(pid: &str) {
    let script = fs::read_to_string(repository().join("docker/network/network.sh")).unwrap();
    let init = [
        "env",
        "NETWORK=/tmp/try",
        "sh",
        "-c",
        &script,
        "network.sh",
        "init",
    ];
    for _again in 0..2 {
        let founded = inside(pid, "0", &init);
        assert!(founded.status.success(), "{}", text(&founded));
    }
    let map = inside(
        pid,
        "0",
        &["portmaster", "gate17", "map", "show", "/tmp/try/root/map.json"],
    );
    let map = text(&map);
    let project = compose("docker/compose.network.yaml");
    for node in ["alpha", "beta", "gamma", "delta", "epsilon"] {
        let at = project["services"][node]["networks"]["gate17"]["ipv4_address"].as_str();
        assert!(
            map.contains(node) && map.contains(&format!("{}:443", at.unwrap())),
            "{node} in {map}"
        );
        let checked = format!("--config-dir=/tmp/try/{node}/etc");
        let program = "/usr/libexec/portmaster/portmaster-gate17-node";
        let said = inside(pid, "65532", &[program, &checked, "--check-config"]);
        assert!(said.status.success(), "{node}: {}", text(&said));
    }
    // a node cannot read what is another operator's: the key that the network is signed by
    let key = inside(pid, "65532", &["cat", "/tmp/try/root/root.key"]);
    assert!(text(&key).contains("Permission denied"), "{}", text(&key));
}
