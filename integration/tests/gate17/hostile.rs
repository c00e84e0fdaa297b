//! A node that means harm, among real ones: whatever it does is found, named and gone round, and programs get an error or
//! what is theirs, never what is another's.

use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::{ChildStdin, Stdio},
    thread,
    time::{Duration, Instant},
};

use integration::{App, Running, Service, eventually};
use serde_json::{Value, json};

use crate::{
    circuits::{AVOIDED, PORT, Place},
    network::{ENTRY, Holds, Network, server},
    rogue::{Mode, Rogue},
};

/// A program's connection, of which everything is kept that it heard.
struct Talk {
    mouth: ChildStdin,
    said: String,
    heard: PathBuf,
    running: Running,
}

impl Talk {
    fn open(place: &Place, app: &App, name: &str) -> Self {
        use std::os::unix::process::CommandExt as _;
        let heard = place.world.root().join(format!("{name}.heard"));
        let mut command = app.command(&place.world);
        let to = server(PORT);
        command.args([to.ip().to_string(), to.port().to_string()]);
        command
            .stdin(Stdio::piped())
            .stdout(File::create(&heard).unwrap())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        Self {
            mouth: child.stdin.take().unwrap(),
            said: String::new(),
            heard,
            running: Running::adopt(name, child),
        }
    }

    /// Whether it could.
    fn say(&mut self, line: &str) -> bool {
        let line = format!("{line}\n");
        self.said += &line;
        self.mouth.write_all(line.as_bytes()).is_ok()
    }

    fn heard(&self) -> String {
        fs::read_to_string(&self.heard).unwrap()
    }

    /// All that it said came back.
    fn is_answered(&self) -> bool {
        self.heard() == self.said
    }

    /// It heard nothing that it did not say.
    fn heard_its_own(&self) {
        assert!(
            self.said.starts_with(&self.heard()),
            "{:?} of {:?}",
            self.heard(),
            self.said
        );
    }

    /// It got an error, or an end.
    fn has_ended(&mut self) -> bool {
        self.running.ended().is_some()
    }
}

struct Field {
    place: Place,
    rogue: Rogue,
    apps: Vec<App>,
}

impl Field {
    /// `alpha` is the rogue, and first on every path of two that is drawn; it is no exit.
    fn new() -> Self {
        let mut rogue = None;
        let place = Place::with("g17-rogue", ENTRY.1, |network, world| {
            network.kill(0);
            let folder = |name: &str| world.root().join(name);
            let other = folder("other");
            fs::create_dir_all(&other).unwrap();
            let (key, certificate) = (other.join("key.pem"), other.join("certificate.pem"));
            integration::certificate(&key, &certificate, "DNS:alpha.example");
            let own = folder("alpha").join("var/lib/portmaster/gate17-node");
            let address = SocketAddr::new(Network::addresses()[0], 443);
            rogue = Some(Rogue::start(network.host(0), address, &own, &other));
            network.say(0, "capacity", json!(1_000_000));
            network.say(0, "exit", json!([]));
            for node in [1, 2] {
                network.say(node, "capacity", json!(1));
            }
            network.publish(world, 2, &Holds(86_400));
        });
        let apps = vec![
            place.app("one", "hops = 2\n"),
            place.app("two", "hops = 2\nexit = ['node:gamma']\n"),
        ];
        Self {
            place,
            rogue: rogue.unwrap(),
            apps,
        }
    }

    /// With an entry that knows nothing of its nodes yet.
    fn begin(&mut self, mode: Mode) {
        let world = &mut self.place.world;
        world.stop(Service::Gate17Entry);
        let guards = world.state_dir(Service::Gate17Entry).join("guards.json");
        let _none = fs::remove_file(guards);
        self.rogue.is(mode);
        world.start_service(Service::Gate17Entry);
    }

    /// What is known of the rogue, once it is avoided: nobody else is, and the others carry.
    fn found(&self, mode: Mode) -> String {
        let alpha = eventually(&format!("a rogue is avoided: {mode:?}"), || {
            for app in self.apps.iter().rev() {
                self.place.echoes(app);
            }
            let alpha = self.node("alpha");
            (alpha["trouble"].as_f64().unwrap() >= AVOIDED).then_some(alpha)
        });
        eventually("the others carry", || {
            let circuit = self
                .place
                .echoes(&self.apps[0])
                .then(|| self.place.circuit_of(&self.apps[0]))??;
            (!circuit["hops"].to_string().contains("alpha")).then_some(())
        });
        let trouble = self.place.trouble();
        assert!(
            trouble["beta"] < AVOIDED && trouble["gamma"] < AVOIDED,
            "{mode:?}: {trouble:?}"
        );
        alpha["problem"].as_str().unwrap().to_owned()
    }

    fn node(&self, id: &str) -> Value {
        let mut nodes = self.place.told("nodes").into_iter();
        nodes.find(|node| node["id"] == id).unwrap()
    }

    /// Connections of both programs through the rogue.
    fn talks(&self) -> Vec<Talk> {
        let talks = self.apps.iter().enumerate().map(|(at, app)| {
            eventually("a program is carried through the rogue", || {
                let mut talk = Talk::open(&self.place, app, &format!("talk-{at}"));
                talk.say(&format!("of program {at}"));
                while !talk.is_answered() {
                    thread::sleep(Duration::from_millis(10));
                    if talk.has_ended() {
                        return None;
                    }
                }
                let circuit = self.place.circuit_of(app)?;
                (circuit["hops"][0] == "alpha").then_some(talk)
            })
        });
        talks.collect()
    }
}

#[test]
fn whatever_a_node_does_to_who_builds_through_it_is_found_and_gone_round() {
    let mut field = Field::new();
    let beta = SocketAddr::new(Network::addresses()[1], 443);
    for (mode, problem) in [
        (Mode::WrongKey, "its key is none that the map says"),
        (Mode::ToItself, "the node after it, "),
        // who wants to go there gets there
        (Mode::ToAnother(beta), "the node after it, gamma"),
        (Mode::Babbles, "it does not carry"),
        (Mode::Deaf, "it does not answer"),
        (Mode::OnlySays, "says that it is connected"),
    ] {
        let begun = Instant::now();
        field.begin(mode);
        let said = field.found(mode);
        println!("{mode:?}, after {:?}: {said}", begun.elapsed());
        assert!(said.contains(problem), "{mode:?}: {said}");
    }
}

#[test]
fn whatever_a_node_does_to_what_it_carries_is_found_and_is_an_error_and_nobody_hears_anothers_words() {
    let mut field = Field::new();
    for (mode, problem) in [
        (Mode::AltersDown, "the node after it, "),
        (Mode::AltersUp, "the node after it, "),
        (Mode::Replays, "the node after it, "),
        (Mode::Crosses, "the node after it, "),
        (Mode::Stalls, "it does not answer"),
    ] {
        let begun = Instant::now();
        field.begin(mode);
        let mut talks = field.talks();
        field.rogue.arm();
        eventually("both programs hear of it", || {
            for talk in &mut talks {
                let _gone = talk.say("more");
            }
            thread::sleep(Duration::from_millis(300));
            talks.iter_mut().all(Talk::has_ended).then_some(())
        });
        for talk in &talks {
            talk.heard_its_own();
        }
        let said = field.found(mode);
        println!("{mode:?}, after {:?}: {said}", begun.elapsed());
        assert!(said.contains(problem), "{mode:?}: {said}");
    }
}
