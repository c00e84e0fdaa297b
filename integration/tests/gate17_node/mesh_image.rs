//! The mesh's image without an engine: the root file system that the last stage of its Dockerfile describes, on a debootstrapped
//! tree, started as the compose file has it, in the network of a host that is only there for it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use integration::{Running, World, booted::plain_tree, eventually, world::INTERNET_V4};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    container_files::{compose, repository, words},
    image::Image,
    place::text,
};

const DOCKERFILE: &str = "docker/mesh.Dockerfile";
const PROGRAMS: [&str; 7] = [
    "portmaster",
    "portmaster-interceptor",
    "portmaster-process-resolver",
    "portmaster-policy",
    "portmaster-dns",
    "portmaster-gate17-entry",
    "portmaster-api-gateway",
];

/// As engines set it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `docker compose` does with the service `portmaster`, by hand. The host's processes are its own, as `pid: host` has it.
fn container(image: &Image, world: &World) -> Command {
    let service = &compose("docker/compose.mesh.yaml")["services"]["portmaster"];
    assert_eq!(
        (&service["network_mode"], &service["pid"], &service["read_only"]),
        (&"host".into(), &"host".into(), &true.into())
    );
    let mut script = String::from(
        "mount --make-rprivate /\nmount -t tmpfs tmpfs \"$W\"\nR=$W/root\nmkdir \"$W/up\" \"$W/work\" \"$R\"\n\
         mount -t overlay overlay -o \"lowerdir=$BASE,upperdir=$W/up,workdir=$W/work\" \"$R\"\n",
    );
    script += &image.make;
    // where something is mounted an engine makes the place
    script += "mkdir -p \"$R/var/lib/portmaster-up\" \"$R/etc/portmaster\"\n";
    script += "mount --bind \"$R\" \"$R\"\nmount -o remount,bind,ro \"$R\"\n";
    script += "mount -t proc proc \"$R/proc\"\nmount -t sysfs -o ro sysfs \"$R/sys\"\nmount --rbind /dev \"$R/dev\"\n";
    for volume in words(&service["volumes"]) {
        let parts: Vec<_> = volume.split(':').collect();
        let from = match parts[0] {
            "state" => "$STATE",
            "./mesh/etc" => "$CONFIG",
            host => host,
        };
        script += &format!(
            "mkdir -p \"{from}\"\nmount --bind \"{from}\" \"$R{}\"\n",
            parts[1]
        );
    }
    for mount in words(&service["tmpfs"]) {
        let (place, options) = mount.split_once(':').unwrap();
        script += &format!("mount -t tmpfs -o {options} tmpfs \"$R{place}\"\n");
    }
    let capabilities: String = words(&service["cap_add"])
        .iter()
        .map(|name| format!(",+{}", name.to_lowercase()))
        .collect();
    assert_eq!(words(&service["cap_drop"]), ["ALL"]);
    assert!(words(&service["security_opt"]).contains(&"no-new-privileges:true"));
    script += &format!(
        "exec chroot \"$R\" setpriv --no-new-privs --inh-caps=-all --bounding-set=-all{capabilities} -- env -i NO_COLOR=1 {PATH} {} {}\n",
        image.environment.join(" "),
        image.entrypoint.join(" ")
    );
    let work = world.root().join("work");
    fs::create_dir(&work).unwrap();
    let mut command = world.host.command("unshare");
    command.args(["--mount", "--", "sh", "-euc", &script]);
    command
        .env("W", work)
        .env("BASE", plain_tree())
        .env("PROGRAMS", programs(world.root()))
        .env("REPOSITORY", repository())
        .env("STATE", world.root().join("state"))
        .env("CONFIG", world.root().join("etc-of-mesh"));
    command
}

/// As `docker/programs` is: those of the mesh, and no others.
fn programs(root: &Path) -> std::path::PathBuf {
    let folder = root.join("programs");
    fs::create_dir(&folder).unwrap();
    for name in PROGRAMS {
        fs::copy(integration::binary(name), folder.join(name)).unwrap();
    }
    folder
}

/// As `docker exec` does.
fn inside(pid: u32, image: &Image, words: &[&str]) -> Output {
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &pid.to_string(),
        "--mount",
        "--net",
        "--root",
        "--wd",
        "env",
        "-i",
        PATH,
    ]);
    command.args(&image.environment).args(words).output().unwrap()
}

#[test]
fn the_image_of_the_mesh_is_a_firewall_with_the_capabilities_of_its_compose_file() {
    let image = Image::read(DOCKERFILE);
    let world = World::builder("mesh-image").without_services().start();
    let server = world.internet.echo(INTERNET_V4, 8710);
    let app = world.app("talker");
    let mut running = Running::start_logged(
        "the mesh",
        container(&image, &world),
        &world.root().join("mesh.log"),
    );
    let pid = running.pid().as_raw_nonzero().get().unsigned_abs();
    let health: Vec<_> = image.health.iter().map(String::as_str).collect();
    eventually("its health check says that it is well", || {
        assert!(running.ended().is_none(), "{}", running.output());
        inside(pid, &image, &health).status.success().then_some(())
    });
    let status = inside(pid, &image, &["portmaster", "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("the state of the mesh as JSON");
    println!("{status:#}");

    // it decides what the host's programs do
    assert!(app.connect(&world, server).connected, "{}", running.output());
    let listed = world
        .host
        .command("curl")
        .args([
            "-sS",
            "--max-time",
            "20",
            "--json",
            r#"{"filter": {"remotePort": 8710}}"#,
        ])
        .arg("http://127.0.0.1:817/portmaster.api.v1.Connections/List")
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let path = app.path().display().to_string();
    let rule = serde_json::json!({ "match": { "path": path }, "rule": { "action": "ACTION_BLOCK" } });
    let saved = world
        .host
        .command("curl")
        .args(["-sS", "--max-time", "20", "--json", &rule.to_string()])
        .arg("http://127.0.0.1:817/portmaster.api.v1.Policy/AddRule")
        .output()
        .unwrap();
    assert!(text(&saved).contains("\"saved\":true"), "{}", text(&saved));
    eventually("the program is refused", || {
        (!app.connect(&world, server).connected).then_some(())
    });

    // it may do what its file says, and no more; nothing but its volumes is written
    let capabilities = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bounding = capabilities
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    let bounding = u64::from_str_radix(bounding.trim(), 16).unwrap();
    let service = &compose("docker/compose.mesh.yaml")["services"]["portmaster"];
    assert_eq!(
        usize::try_from(bounding.count_ones()).unwrap(),
        words(&service["cap_add"]).len(),
        "{capabilities}"
    );
    let said = text(&inside(pid, &image, &["touch", "/usr/bin/x"]));
    assert!(said.contains("Read-only file system"), "{said}");

    // stopped, it opens the host
    rustix::process::kill_process(running.pid(), Signal::TERM).unwrap();
    let _ = running.wait();
    eventually("the host is open", || {
        app.connect(&world, server).connected.then_some(())
    });
    let rules = world.host.sh("iptables-save; ip6tables-save");
    assert!(!rules.contains("C17"), "{rules}");
}
