//! The data path's stream.

use integration::Service;
use proto::resolver::v1::{Miss, ResolveRequest};
use verdict::{Flow, Protocol};

use crate::{
    ask::{Asker, outgoing, world},
    identity::{NC_PORT, nc_arguments, udp_flow},
    play::Play,
};

fn request(request_id: u64, flow: Option<Flow>) -> ResolveRequest {
    ResolveRequest {
        request_id,
        flow: flow.map(Into::into),
        uid: Some(0),
        hash: false,
        ..ResolveRequest::default()
    }
}

#[test]
fn every_request_is_answered_and_a_process_is_told_once() {
    let mut world = world("stream");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let mut asker = Asker::start(&mut world);
    let play = Play::python(
        &world,
        &format!(
            "kept = []\n\
             for _ in range(50): s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); kept.append(s); say(port(s))"
        ),
    );
    let ports: Vec<u16> = (0..50).map(|_| play.number()).collect();
    let flow = |port: u16| outgoing(Protocol::UDP, (here, port), (there, 5000));
    let mut requests: Vec<_> = (1..)
        .zip(&ports)
        .map(|(id, port)| request(id, Some(flow(*port))))
        .collect();
    // nobody's, and nonsense
    requests.push(request(101, Some(outgoing(Protocol::UDP, (here, 1), (there, 2)))));
    requests.push(request(102, None));
    let replies = asker.resolve(requests);
    let mut ids: Vec<_> = replies.iter().map(|reply| reply.request_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).chain([101, 102]).collect::<Vec<_>>());
    let (found, missed): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.process_key != 0);
    assert!(
        missed
            .iter()
            .all(|reply| reply.miss() == Miss::NoSocket && reply.process.is_none())
    );
    assert_eq!(missed.len(), 2);
    let key = found.first().unwrap().process_key;
    assert!(
        found
            .iter()
            .all(|reply| reply.process_key == key && reply.socket_uid == Some(0))
    );
    let told: Vec<_> = found.iter().filter_map(|reply| reply.process.as_ref()).collect();
    assert_eq!(
        told.len(),
        1,
        "the process is told with the first answer, and only then"
    );
    assert_eq!(told.first().unwrap().pid, play.pid());
    assert!(found.first().unwrap().process.is_some());
}

#[test]
fn what_was_found_is_remembered_and_counted() {
    let mut world = world("counted");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let mut asker = Asker::start(&mut world);
    let mut play = Play::python(
        &world,
        &format!(
            "kept = []\n\
             while True: s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); kept.append(s); say(port(s)); wait()"
        ),
    );
    let flow = |port: u16| outgoing(Protocol::UDP, (here, port), (there, 5000));
    let first = flow(play.number());
    asker.owner(first);
    assert_eq!(asker.counter("holders_cached"), 0);
    asker.owner(first);
    assert_eq!(asker.counter("holders_cached"), 1, "the same socket again");
    play.go();
    let second = flow(play.number());
    asker.owner(second);
    assert_eq!(
        asker.counter("holders_near"),
        1,
        "the next socket of a known process"
    );
    assert_eq!(asker.counter("sockets_from_tables"), 0, "the kernel said it all");
    let nobody = outgoing(Protocol::UDP, (here, 1), (there, 2));
    assert!(asker.lookup(nobody).is_err());
    assert_eq!(asker.counter("misses_no_socket"), 1);
    integration::eventually("the caches' sizes are told", || {
        asker.owner(second);
        (asker.counter("processes_cached_now") == 1 && asker.counter("sockets_cached_now") == 2).then_some(())
    });
}

#[test]
fn a_search_of_everything_does_not_hold_up_others() {
    let mut world = world("beside");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let mut asker = Asker::start(&mut world);
    let play = |many: u32| {
        let code = format!(
            "many = [open('/dev/null') for _ in range({many})]\n\
             s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); say(port(s))"
        );
        let play = Play::python(&world, &code);
        let flow = outgoing(Protocol::UDP, (here, play.number()), (there, 5000));
        (flow, play)
    };
    let (hidden, holder) = play(900);
    let (open, _other) = play(0);
    asker.owner(open);
    let replies = asker.resolve(vec![request(1, Some(hidden)), request(2, Some(open))]);
    let order: Vec<_> = replies.iter().map(|reply| reply.request_id).collect();
    assert_eq!(order, [2, 1], "what is known is answered first");
    let found = replies.iter().find_map(|reply| {
        let process = reply.process.as_ref()?;
        (reply.request_id == 1).then_some(process.pid)
    });
    assert_eq!(found, Some(holder.pid()));
}

#[test]
fn it_stops_at_once_whatever_is_under_way() {
    let mut world = world("stops");
    // a program whose hash takes very long: a hole of 64 GiB behind it
    let app = world.app("app");
    let file = std::fs::File::options().write(true).open(app.path()).unwrap();
    file.set_len(64 << 30).unwrap();
    drop(file);
    let mut asker = Asker::start(&mut world);
    let mut command = world.host.command(app.path());
    command.args(nc_arguments(&world).split(' '));
    let _play = Play::start(command);
    let flow = udp_flow(&world, NC_PORT);
    integration::eventually("nc has its socket", || asker.lookup(flow).ok());
    let hashing = ResolveRequest {
        hash: true,
        ..request(1, Some(flow))
    };
    let open = asker.begin(hashing);
    // a clean end within the five seconds that a service has
    world.stop(Service::Resolver);
    drop(open);
}
