//! Lists of a size that publishers really have, in the running service: what they take, and that nobody waits while they change.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufWriter, Write as _},
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use integration::{PATIENCE, Service, eventually, profile, world::INTERNET_V4};
use serde_json::Value;

use super::{
    authority::{Scripted, now},
    stage::{self, path_of},
};

const SERVER: &str = "@127.0.0.1";
const MILLION: u32 = 1_000_000;
/// Lines that say nothing, among the names.
const GARBAGE: u32 = 50_000;
/// What a million names may take.
const MOST: u64 = 25;

fn settings(list: &str) -> String {
    format!("{list}[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n")
}

/// A hosts file as publishers have them, and between its names comments, and lines that are none.
fn write(scripted: &Scripted, name: &str, word: &str) {
    let path = scripted.world.config_dir().join("lists").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&new).unwrap());
    for number in 0..MILLION {
        writeln!(file, "0.0.0.0 {word}{number}.tracker{}.example", number % 1009).unwrap();
        if number % (MILLION / GARBAGE) == 0 {
            writeln!(file, "# a comment\nno..name{number}\n").unwrap();
        }
    }
    file.into_inner().unwrap().sync_all().unwrap();
    fs::rename(new, path).unwrap();
}

/// Of the service, in KiB.
fn resident(scripted: &Scripted) -> u64 {
    let pid = scripted.world.service(Service::Dns).pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

fn list(scripted: &Scripted) -> Value {
    let mut command = scripted.world.command(integration::binary("portmaster"));
    let output = command.args(["dns", "lists", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Asks again and again for these names, one after the other; gives how long the slowest answer took, and how many answers of
/// each code each name got.
fn ask_until(
    scripted: &Scripted,
    over: &AtomicBool,
    names: [&str; 2],
) -> (Duration, HashMap<(String, u8), u64>) {
    let socket = scripted
        .world
        .host
        .enter(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.connect("127.0.0.1:53").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut slowest, mut codes, mut id) = (Duration::ZERO, HashMap::new(), 0_u16);
    while !over.load(SeqCst) {
        for name in names {
            id = id.wrapping_add(1);
            let mut query = [id, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
            for label in name.split('.') {
                query.push(u8::try_from(label.len()).unwrap());
                query.extend(label.bytes());
            }
            query.extend([0, 0, 1, 0, 1]);
            let sent = Instant::now();
            socket.send(&query).unwrap();
            let mut answer = [0; 512];
            socket.recv(&mut answer).unwrap();
            assert_eq!(answer[..2], id.to_be_bytes(), "the answer to this query");
            slowest = slowest.max(sent.elapsed());
            *codes.entry((name.to_owned(), answer[3] & 15)).or_default() += 1;
        }
        thread::sleep(Duration::from_millis(2));
    }
    (slowest, codes)
}

#[test]
fn a_million_names_take_their_part_of_memory_and_change_without_a_pause() {
    let mut scripted = Scripted::new("dns-million", "", |asked| now(asked.addresses(1, 300)));
    let known = || scripted.dig("asks").ask(&[SERVER, "known.example"]);
    assert_eq!(known().status(), "NOERROR");
    let without = resident(&scripted);
    write(&scripted, "large", "old");
    let text = "[[list]]\nname = \"large\"\ncategories = [\"ads\"]\nfile = \"lists/large\"\n";
    scripted.world.stop(Service::Dns);
    scripted.world.config_file("dns.toml", &settings(text));
    let mut command = scripted.world.service_command(Service::Dns);
    // as in its unit
    command.env("MALLOC_MMAP_THRESHOLD_", "1048576");
    scripted.world.start_as(Service::Dns, command);
    let refused =
        |scripted: &Scripted, name: &str| scripted.dig("asks").ask(&[SERVER, name]).status() == "NXDOMAIN";
    assert!(
        refused(&scripted, "old0.tracker0.example"),
        "before the first answer"
    );
    assert!(
        refused(&scripted, "old999999.tracker80.example"),
        "to the last line"
    );
    let told = list(&scripted);
    assert_eq!(told["names"], MILLION, "{told}");
    assert_eq!(told["garbage"], GARBAGE, "{told}");
    assert!(
        scripted.world.output(Service::Dns).contains("no..name0"),
        "named in the log"
    );
    let more = resident(&scripted).saturating_sub(without) / 1024;
    let table = stage::counter(&scripted.world, "list_octets_now").unwrap() >> 20;
    eprintln!("a million names: {table} MiB, and {more} MiB more resident than without");
    assert!(
        table <= MOST && more <= MOST,
        "{table} MiB of names, {more} MiB more"
    );

    // another million in their place, while everybody goes on asking
    let over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let (asked, ends) = (&scripted, Arc::clone(&over));
        let asks = scope.spawn(move || ask_until(asked, &ends, ["known.example", "old7.tracker7.example"]));
        write(&scripted, "large", "new");
        eventually("the new ones are in force", || {
            refused(&scripted, "new0.tracker0.example").then_some(())
        });
        assert!(
            !refused(&scripted, "old0.tracker0.example"),
            "all change together"
        );
        over.store(true, SeqCst);
        let (slowest, codes) = asks.join().unwrap();
        eprintln!("the slowest answer meanwhile: {slowest:?}; {codes:?}");
        let of = |name: &str, code| codes.get(&(name.to_owned(), code)).copied().unwrap_or_default();
        assert!(
            of("known.example", 0) > 20 && of("old7.tracker7.example", 3) > 20,
            "{codes:?}"
        );
        // each got what one of both says, and nothing else
        assert_eq!(of("known.example", 3) + of("known.example", 2), 0, "{codes:?}");
        assert_eq!(of("old7.tracker7.example", 2), 0, "{codes:?}");
        // reading a million names takes seconds here
        assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
    });
    let after = resident(&scripted).saturating_sub(without) / 1024;
    eprintln!("after the change: {after} MiB more than without");
    assert!(after <= MOST, "{after} MiB more: the old ones are gone");
}

/// Categories, permissions, and the actions of policy zones, each for the profile that wants them.
#[test]
fn profiles_filter_by_categories_and_what_is_permitted_anywhere_is_answered() {
    let mut scripted = Scripted::new("dns-categories", "", |asked| now(asked.addresses(1, 300)));
    for (name, text) in [
        (
            "ads",
            "||ads.example^\n||shared.example^\n@@||good.ads.example^\naddress=/dns.example/0.0.0.0\n",
        ),
        (
            "malware",
            "0.0.0.0 evil.example\n0.0.0.0 fine.ads.example\n||permitted.example^\n",
        ),
        (
            "zone",
            "$TTL 300\n$ORIGIN rpz.test.\n@ SOA localhost. root.localhost. (\n 1 3600\n 600 86400 60 )\n NS localhost.\n\
             nx.example CNAME .\nnodata.example CNAME *.\ndropped.example CNAME rpz-drop.\n\
             truncated.example CNAME rpz-tcp-only.\n*.below.example CNAME .\n\
             permitted.example CNAME rpz-passthru.\n32.7.113.0.203.rpz-ip CNAME .\nlocal.example A 192.0.2.1\n",
        ),
    ] {
        scripted.world.config_file(&format!("lists/{name}"), text);
    }
    let one = |name: &str, category: &str| {
        format!("[[list]]\nname = \"our-{name}\"\ncategories = [\"{category}\"]\nfile = \"lists/{name}\"\n")
    };
    let lists = [
        one("ads", "ads"),
        one("malware", "malware"),
        one("zone", "policy"),
    ]
    .concat();
    scripted.world.stop(Service::Dns);
    scripted.world.config_file("dns.toml", &settings(&lists));
    scripted.world.start_service(Service::Dns);
    for (name, categories) in [
        ("ads", "\"ads\""),
        ("policy", "\"policy\", \"malware\""),
        ("none", ""),
    ] {
        let path = path_of(&scripted.world, name);
        let chosen = format!("[settings]\nblock_lists = [{categories}]\n");
        let text = profile(&path, "allow", "").replace("[settings]\n", &chosen);
        scripted.world.profile(name, &text);
    }
    let dig = |name: &str| scripted.dig(name);
    eventually("the profiles are in force", || {
        let ads = dig("ads").ask(&[SERVER, "evil.example"]).status() == "NOERROR";
        let policy = dig("policy").ask(&[SERVER, "ads.example"]).status() == "NOERROR";
        let none = dig("none").ask(&[SERVER, "nx.example"]).status() == "NOERROR";
        (ads && policy && none).then_some(())
    });
    // by which list each program's query is refused; by none where it is answered
    for (name, of_all, of_ads, of_policy) in [
        ("ads.example", "our-ads", "our-ads", ""),
        ("x.shared.example", "our-ads", "our-ads", ""),
        ("a.dns.example", "our-ads", "our-ads", ""),
        ("evil.example", "our-malware", "", "our-malware"),
        ("x.evil.example", "", "", ""),
        // permitted by the one list, refused by the other
        ("good.ads.example", "", "", ""),
        ("permitted.example", "", "", ""),
        ("nx.example", "our-zone", "", "our-zone"),
        ("nodata.example", "our-zone", "", "our-zone"),
        ("dropped.example", "our-zone", "", "our-zone"),
        ("x.below.example", "our-zone", "", "our-zone"),
        ("below.example", "", "", ""),
        ("local.example", "", "", ""),
    ] {
        for (program, list) in [
            ("all", of_all),
            ("ads", of_ads),
            ("policy", of_policy),
            ("none", ""),
        ] {
            let said = dig(program).ask(&[SERVER, name]);
            let wanted = if list.is_empty() { "NOERROR" } else { "NXDOMAIN" };
            assert_eq!(said.status(), wanted, "{program}, {name}: {}", said.0);
            assert!(
                list.is_empty() || said.0.contains(list),
                "{program}, {name}: {}",
                said.0
            );
        }
    }
}
