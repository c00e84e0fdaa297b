//! Queues that somebody reads.

use integration::{Namespace, World};
use interceptor::nfqueue::{Queue, QueueNumber, QueueOptions};

use crate::{check, run};

#[test]
fn who_holds_a_queue_of_ours_is_named() {
    let host = Namespace::new("held");
    let options = QueueOptions::default();
    // the second socket of a process has no port that tells whose it is
    let _held =
        host.enter(|| [17040, 17060].map(|number| Queue::bind(QueueNumber(number), &options).unwrap()));
    let said = check(&host);
    assert_eq!(said.status, Some(2));
    assert_eq!(said.codes(), [("clash", "queue-held"); 2], "{said:#?}");
    let me = format!("(process {})", std::process::id());
    for finding in &said.findings {
        assert!(finding["what"].as_str().unwrap().contains(&me), "{said:#?}");
    }
}

#[test]
fn a_running_portmaster_is_not_in_its_own_way() {
    let world = World::start("own");
    let config = world.config_dir();
    let said = run(
        world.command(integration::binary("portmaster")),
        &["--config", config.to_str().unwrap()],
    );
    assert_eq!((said.codes(), said.status), (vec![], Some(0)), "{said:#?}");
}

#[test]
fn a_queue_behind_ours_in_mangle_never_sees_a_first_packet() {
    let world = World::start("skipped");
    let server = world.internet.echo(world.internet_addresses()[0], 443);
    world.host.sh(
        "iptables-nft -t mangle -A OUTPUT -m conntrack --ctstate NEW -j NFQUEUE --queue-num 0 --queue-bypass",
    );
    let config = world.config_dir();
    let said = run(
        world.command(integration::binary("portmaster")),
        &["--config", config.to_str().unwrap()],
    );
    assert_eq!(
        (said.codes(), said.status),
        (vec![("clash", "queue-skipped")], Some(2))
    );
    assert!(world.app("browser").connect(&world, server).connected);
    let counted = world
        .host
        .sh("iptables-nft-save -c -t mangle | grep 'queue-num 0 '");
    assert!(
        counted.starts_with("[0:0] "),
        "called a clash, and gets its packets: {counted}"
    );
}
