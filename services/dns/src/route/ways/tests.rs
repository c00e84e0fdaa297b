use super::*;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 53));

fn way(interface: u32, gateway: u8) -> Option<Way> {
    Some(Way {
        interface,
        gateway: Some([192, 168, 1, gateway].into()),
        source: None,
        running: true,
    })
}

fn broken(interface: u32) -> Option<Way> {
    way(interface, 1).map(|way| Way {
        running: false,
        ..way
    })
}

fn reach(before: Option<Way>, now: Option<Way>, shaken: &Shaken) -> Reach {
    let (before, now) = (Picture::from([(SERVER, before)]), Picture::from([(SERVER, now)]));
    let comparison = Comparison {
        before: &before,
        now: &now,
        shaken,
    };
    comparison.reach(&[SERVER])
}

fn of(interfaces: &[u32]) -> Shaken {
    Shaken {
        interfaces: interfaces.iter().copied().collect(),
        other: true,
        lost: false,
    }
}

#[test]
fn only_its_own_way_concerns_a_server() {
    let nothing = of(&[]);
    for (what, before, now, shaken, wanted) in [
        ("others' links", way(2, 1), way(2, 1), of(&[7, 8]), Reach::Same),
        (
            "its own, for a moment",
            way(2, 1),
            way(2, 1),
            of(&[2]),
            Reach::Changed,
        ),
        (
            "another link",
            way(2, 1),
            way(3, 1),
            nothing.clone(),
            Reach::Changed,
        ),
        (
            "another gateway",
            way(2, 1),
            way(2, 9),
            nothing.clone(),
            Reach::Changed,
        ),
        ("no route", way(2, 1), None, nothing.clone(), Reach::CutOff),
        ("no carrier", way(2, 1), broken(2), of(&[2]), Reach::CutOff),
        ("as bad as before", None, broken(2), of(&[2]), Reach::Same),
        ("a route", None, way(2, 1), nothing.clone(), Reach::Changed),
        ("a carrier", broken(2), way(2, 1), nothing, Reach::Changed),
        (
            "who knows",
            way(2, 1),
            way(2, 1),
            Shaken {
                lost: true,
                ..of(&[])
            },
            Reach::Changed,
        ),
    ] {
        assert_eq!(reach(before, now, &shaken), wanted, "{what}");
    }
}

#[test]
fn one_of_several_addresses_is_enough_and_a_new_server_loses_nothing() {
    let before = Picture::from([(SERVER, way(2, 1)), (OTHER, way(3, 1))]);
    let now = Picture::from([(SERVER, way(2, 1)), (OTHER, None)]);
    let shaken = of(&[]);
    let mut comparison = Comparison {
        before: &before,
        now: &now,
        shaken: &shaken,
    };
    assert_eq!(comparison.reach(&[SERVER, OTHER]), Reach::Changed);
    assert_eq!(comparison.reach(&[OTHER]), Reach::CutOff);
    assert_eq!(comparison.reach(&[]), Reach::Same);
    let unknown = Picture::new();
    comparison.before = &unknown;
    assert_eq!(comparison.reach(&[SERVER]), Reach::Same);
}
