//! Control groups: what they tell of a process, of a socket, and where a socket's holder is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use integration::{World, eventually};
use proto::resolver::v1::{Miss, ResolveReply, ResolveRequest};
use verdict::{Flow, Protocol};

use crate::{
    ask::{Asker, outgoing, world},
    identity::{udp, udp_flow},
    play::Play,
};

/// A control group, removed at the end.
struct Group(PathBuf);

impl Group {
    fn make(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A unit's, and the one for whoever leaves it; `None` where this host has no unified hierarchy.
    fn pair(label: &str) -> Option<[Self; 2]> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let Some(tree) = line.and_then(|line| line.split(' ').nth(4)) else {
            eprintln!("skipped: this host has no unified control groups");
            return None;
        };
        let make = |name: &str| {
            let id = std::process::id();
            Self::make(Path::new(tree).join(format!("pm-{label}-{id}-{name}.service")))
        };
        Some([make("one"), make("other")])
    }

    fn take(&self, play: &Play) {
        fs::write(self.0.join("cgroup.procs"), play.pid().to_string()).unwrap();
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // a process that was killed is there until it is reaped by whoever got it
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// A program in `group` that opens its socket when told to, as descriptor 30 or beyond: it is not found by a guess at
/// those that just began.
fn sender(world: &World, group: &Group, before: &str) -> Play {
    let play = Play::python(
        world,
        &format!(
            "{before}\n\
             many = [open('/dev/null') for _ in range(30)]; say('ready'); wait(); {}; wait(); os._exit(0)",
            udp(world.link.b.v4)
        ),
    );
    play.hear();
    group.take(&play);
    play
}

fn open(world: &World, play: &mut Play) -> Flow {
    play.go();
    udp_flow(world, play.number())
}

fn reply(asker: &mut Asker, flow: Flow, uid: u32) -> ResolveReply {
    let request = ResolveRequest {
        request_id: 1,
        flow: Some(flow.into()),
        uid: Some(uid),
        ..ResolveRequest::default()
    };
    asker.resolve(vec![request]).into_iter().next().unwrap()
}

/// Pid and the unit that the socket was made in.
fn pid_and_unit(reply: ResolveReply) -> (u32, String) {
    (
        reply.process.map_or(0, |process| process.pid),
        reply.socket_cgroup.unwrap_or_default().unit,
    )
}

#[test]
fn a_control_group_names_the_unit() {
    let Some([slice, _other]) = Group::pair("name") else {
        return;
    };
    // of a name that no unit has
    let slice = Group::make(slice.0.with_extension("slice"));
    let unit = Group::make(slice.0.join("weather.service"));
    let mut world = world("cgroup");
    let mut play = sender(&world, &unit, "");
    let flow = open(&world, &mut play);
    let mut asker = Asker::start(&mut world);
    let process = asker.lookup(flow).unwrap();
    let told = reply(&mut asker, flow, 0).socket_cgroup.unwrap();
    play.kill();
    for cgroup in [process.cgroup, told.into()] {
        assert_eq!(cgroup.unit, "weather.service");
        assert_eq!(cgroup.slice, slice.name());
        assert!(cgroup.path.ends_with("/weather.service"), "{cgroup:?}");
    }
}

#[test]
fn who_asks_first_after_long_is_looked_for_in_its_control_group() {
    let Some([unit, _other]) = Group::pair("first") else {
        return;
    };
    let mut world = world("cgfirst");
    let mut play = sender(&world, &unit, "");
    let mut asker = Asker::start(&mut world);
    let flow = open(&world, &mut play);
    let told = pid_and_unit(reply(&mut asker, flow, 0));
    assert_eq!(told, (play.pid(), unit.name()));
    assert_eq!(asker.counter("holders_cgroup"), 1);
    assert_eq!(asker.counter("holders_all") + asker.counter("holders_owner"), 0);
    play.kill();
}

#[test]
fn who_left_its_control_group_is_found_among_its_user_s_processes() {
    let Some([unit, other]) = Group::pair("left") else {
        return;
    };
    let mut world = world("cgleft");
    let mut play = sender(&world, &unit, "os.setgid(1017); os.setuid(1017)");
    let mut asker = Asker::start(&mut world);
    let flow = open(&world, &mut play);
    other.take(&play);
    let told = pid_and_unit(reply(&mut asker, flow, 1017));
    assert_eq!(
        told,
        (play.pid(), unit.name()),
        "the socket stays where it was made"
    );
    assert_eq!(asker.counter("holders_owner"), 1);
    assert_eq!(asker.lookup(flow).unwrap().cgroup.unit, other.name());
    play.kill();
}

#[test]
fn who_left_both_its_control_group_and_its_user_is_found_among_all() {
    let Some([unit, other]) = Group::pair("all") else {
        return;
    };
    let mut world = world("cgall");
    let mut play = Play::python(
        &world,
        &format!(
            "many = [open('/dev/null') for _ in range(30)]; say('ready'); wait()\n\
             {}; wait(); os.setgid(1018); os.setuid(1018); say('set')",
            udp(world.link.b.v4)
        ),
    );
    play.hear();
    unit.take(&play);
    let mut asker = Asker::start(&mut world);
    let flow = open(&world, &mut play);
    other.take(&play);
    play.go();
    play.hear();
    let told = pid_and_unit(reply(&mut asker, flow, 0));
    assert_eq!(told, (play.pid(), unit.name()));
    assert_eq!(asker.counter("holders_all"), 1);
    play.kill();
}

#[test]
fn a_threaded_control_group_has_threads_only() {
    let Some([unit, _other]) = Group::pair("threaded") else {
        return;
    };
    let below = Group::make(unit.0.join("pool.service"));
    fs::write(below.0.join("cgroup.type"), "threaded").unwrap();
    let mut world = world("cgthread");
    let mut play = sender(&world, &unit, "");
    fs::write(below.0.join("cgroup.threads"), play.pid().to_string()).unwrap();
    let mut asker = Asker::start(&mut world);
    let flow = open(&world, &mut play);
    let told = pid_and_unit(reply(&mut asker, flow, 0));
    assert_eq!(told, (play.pid(), below.name()));
    assert_eq!(asker.counter("holders_cgroup"), 1);
    play.kill();
}

#[test]
fn a_socket_without_a_process_has_its_unit() {
    let Some([unit, _other]) = Group::pair("orphan") else {
        return;
    };
    let mut world = world("orphan");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    // takes no connection and reads nothing: what was sent waits in the closed socket
    let server = world
        .internet
        .enter(|| std::net::TcpListener::bind((there, 443)).unwrap());
    let code = format!(
        "say('ready'); wait(); s = create_connection(('{there}', 443)); s.setblocking(False)\n\
         try:\n  while True: s.send(bytes(65536))\n\
         except BlockingIOError: say(port(s)); os._exit(0)"
    );
    let mut play = Play::python(&world, &code);
    play.hear();
    unit.take(&play);
    let mut asker = Asker::start(&mut world);
    play.go();
    let flow = outgoing(Protocol::TCP, (here, play.number()), server.local_addr().unwrap());
    play.wait();
    let reply = eventually("nobody holds the socket", || {
        let reply = reply(&mut asker, flow, 0);
        (reply.process.is_none() && reply.miss() == Miss::NoProcess).then_some(reply)
    });
    assert_eq!(pid_and_unit(reply), (0, unit.name()));
}

#[test]
fn sockets_of_control_groups_that_are_gone_are_attributed_all_the_same() {
    let Some([unit, other]) = Group::pair("gone") else {
        return;
    };
    let mut world = world("cggone");
    let mut play = sender(&world, &unit, "");
    let flow = open(&world, &mut play);
    other.take(&play);
    drop(unit);
    let mut asker = Asker::start(&mut world);
    let told = pid_and_unit(reply(&mut asker, flow, 0));
    assert_eq!(told, (play.pid(), String::new()));
    assert_eq!(asker.counter("cgroups_unknown"), 1);
    play.kill();
}
