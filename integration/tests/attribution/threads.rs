//! Threads: a socket that one of them opens is the process's.

use verdict::Process;

use crate::{
    ask::{Asker, world},
    identity::{proc_line, udp, udp_flow},
    play::Play,
};

/// Starts a thread that opens a socket and stays; `more` is what the first one does.
fn threaded(there: std::net::Ipv4Addr, more: &str) -> String {
    format!(
        "import threading\n\
         def work():\n  {}; signal.pause()\n\
         wait(); threading.Thread(target=work).start(); {more}",
        udp(there)
    )
}

fn started(process: &Process) -> (u32, u64) {
    (process.pid, process.start_time)
}

#[test]
fn a_thread_that_just_began_is_read_as_its_process() {
    let mut world = world("tid");
    let mut play = Play::python(&world, &threaded(world.link.b.v4, ""));
    let start = proc_line(play.pid(), "cut -d' ' -f22 stat").parse().unwrap();
    // the clock ticks a hundred times a second
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut asker = Asker::start(&mut world);
    play.go();
    let flow = udp_flow(&world, play.number());
    let process = asker.lookup(flow).unwrap();
    assert_eq!(started(&process), (play.pid(), start));
    let thread = proc_line(play.pid(), "ls task | tail -n 1").parse().unwrap();
    assert_ne!(thread, play.pid());
    assert_eq!(started(&asker.pid(thread).unwrap()), (play.pid(), start));
}

#[test]
fn a_process_whose_first_thread_ended_still_has_its_sockets() {
    let mut world = world("noleader");
    let code = threaded(
        world.link.b.v4,
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)",
    );
    let mut play = Play::python(&world, &code);
    let start = proc_line(play.pid(), "cut -d' ' -f22 stat").parse().unwrap();
    // what began it may still be executing something else
    let executable = std::fs::canonicalize("/usr/bin/python3").unwrap();
    let mut asker = Asker::start(&mut world);
    play.go();
    let flow = udp_flow(&world, play.number());
    integration::eventually("the first thread has ended", || {
        (proc_line(play.pid(), "cut -d' ' -f3 stat") == "Z").then_some(())
    });
    let process = asker.lookup(flow).unwrap();
    assert_eq!(started(&process), (play.pid(), start));
    assert_eq!(process.executable.path, Some(executable));
}
