use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn found(lists: &Lists, name: &str) -> Vec<String> {
    let mut all = Vec::new();
    lists.find(&name.parse().unwrap(), |list| all.push(list.name.to_string()));
    all
}

fn built(entries: &[(usize, &str, Covers, Says)]) -> Lists {
    let mut builder = Builder::new([7; 16]);
    for number in 0..3 {
        builder
            .begin(format!("list-{number}").into(), vec!["ads".into()])
            .unwrap();
        for (_, name, covers, says) in entries.iter().filter(|(of, ..)| *of == number) {
            builder.add(&name.parse().unwrap(), *covers, *says);
        }
    }
    builder.finish()
}

#[test]
fn a_zone_covers_what_is_below_and_a_name_itself_alone() {
    let lists = built(&[
        (0, "ads.test", Covers::Zone, Says::Refuse),
        (1, "one.test", Covers::Name, Says::Refuse),
    ]);
    assert_eq!(found(&lists, "ads.test"), ["list-0"]);
    assert_eq!(found(&lists, "a.b.ads.test"), ["list-0"]);
    assert_eq!(found(&lists, "badads.test"), [""; 0]);
    assert_eq!(found(&lists, "one.test"), ["list-1"]);
    assert_eq!(found(&lists, "www.one.test"), [""; 0]);
    assert_eq!(found(&Lists::default(), "one.test"), [""; 0]);
    let below = built(&[(0, "ads.test", Covers::Below, Says::Refuse)]);
    assert_eq!(found(&below, "ads.test"), [""; 0]);
    assert_eq!(found(&below, "www.ads.test"), ["list-0"]);
}

#[test]
fn what_is_taken_back_is_gone_and_what_is_there_twice_is_counted() {
    let mut builder = Builder::new([1; 16]);
    let name = |text: &str| text.parse().unwrap();
    builder.begin("good".into(), Vec::new()).unwrap();
    builder.add(&name("a.test"), Covers::Name, Says::Refuse);
    builder.add(&name("A.test."), Covers::Name, Says::Refuse);
    builder.add(&name("a.test"), Covers::Zone, Says::Refuse);
    builder.begin("broken".into(), Vec::new()).unwrap();
    builder.add(&name("b.test"), Covers::Name, Says::Refuse);
    builder.take_back();
    builder.add(&name("c.test"), Covers::Name, Says::Refuse);
    let lists = builder.finish();
    let counts: Vec<_> = lists
        .lists()
        .iter()
        .map(|list| (list.names, list.duplicates))
        .collect();
    assert_eq!(counts, [(2, 1), (1, 0)]);
    assert_eq!(found(&lists, "b.test"), [""; 0]);
    assert_eq!(found(&lists, "c.test"), ["broken"]);
}

#[test]
fn there_are_not_more_lists_than_there_is_room_for() {
    let mut builder = Builder::new([1; 16]);
    for number in 0..MOST_LISTS {
        builder.begin(number.to_string().into(), Vec::new()).unwrap();
        builder.add(&"everywhere.test".parse().unwrap(), Covers::Name, Says::Refuse);
    }
    assert_eq!(builder.begin("one more".into(), Vec::new()), Err(TooMany));
    let lists = builder.finish();
    assert_eq!(found(&lists, "everywhere.test").len(), MOST_LISTS);
}

#[test]
fn what_permits_wins_wherever_it_stands() {
    let lists = built(&[
        (0, "ads.test", Covers::Zone, Says::Refuse),
        (2, "good.ads.test", Covers::Zone, Says::Permit),
    ]);
    assert_eq!(found(&lists, "www.good.ads.test"), [""; 0]);
    assert_eq!(found(&lists, "bad.ads.test"), ["list-0"]);
    assert_eq!(
        lists.lists().iter().map(|list| list.names).collect::<Vec<_>>(),
        [1, 0, 1]
    );
}

proptest! {
    #[test]
    fn it_is_what_the_simplest_set_is(
        entries in prop::collection::vec((0_usize..3, "[ab](\\.[abc]){0,3}", 0_usize..3, prop::bool::weighted(0.2)), 0..60),
        asked in prop::collection::vec("[ab](\\.[abc]){0,4}", 1..20),
    ) {
        let entries: Vec<_> = entries.iter().map(|(list, name, covers, permit)| {
            let covers = *[Covers::Name, Covers::Zone, Covers::Below].get(*covers).unwrap();
            (*list, name.as_str(), covers, if *permit { Says::Permit } else { Says::Refuse })
        }).collect();
        let lists = built(&entries);
        let mut plain: BTreeMap<&str, BTreeSet<(usize, Covers, bool)>> = BTreeMap::new();
        for (list, name, covers, says) in &entries {
            plain.entry(name).or_default().insert((*list, *covers, *says == Says::Permit));
        }
        for name in &asked {
            let mut hits = BTreeSet::new();
            let mut rest = Some(name.as_str());
            while let Some(suffix) = rest {
                for (list, covers, permit) in plain.get(suffix).into_iter().flatten() {
                    let is_meant = match covers {
                        Covers::Name => suffix == name,
                        Covers::Zone => true,
                        Covers::Below => suffix != name,
                    };
                    if is_meant {
                        hits.insert((*permit, *list));
                    }
                }
                rest = suffix.split_once('.').map(|(_, rest)| rest);
            }
            let permitted = hits.iter().any(|(permit, _)| *permit);
            let expected: Vec<_> = hits.iter().filter(|_| !permitted).map(|(_, list)| format!("list-{list}")).collect();
            prop_assert_eq!(found(&lists, name), expected, "{}", name);
        }
    }
}

#[test]
fn a_list_for_which_there_is_no_room_is_taken_back_and_the_others_stay() {
    let mut builder = Builder::with_room_for([7; 16], 3);
    let mut add = |list: &str, count: usize| {
        builder.begin(list.into(), Vec::new()).unwrap();
        for number in 0..count {
            let name: Name = format!("{list}{number}.test").parse().unwrap();
            builder.add(&name, Covers::Name, Says::Refuse);
        }
        let overfull = builder.is_overfull();
        if overfull {
            builder.take_back();
        }
        overfull
    };
    assert_eq!(
        [add("a", 2), add("b", 2), add("c", 1), add("d", 1)],
        [false, true, false, true]
    );
    let lists = builder.finish();
    let names: Vec<u64> = lists.lists().iter().map(|list| list.names).collect();
    assert_eq!(names, [2, 0, 1, 0]);
}
