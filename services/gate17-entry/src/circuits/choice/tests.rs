use gate17_maps::testing::map;
use proptest::prelude::*;
use verdict::policy::tunnel::Hops;

use super::*;
use crate::blame::{Fault, Seen};

fn id(number: usize) -> NodeId {
    NodeId(format!("n{number}"))
}

fn shape(hops: u32, exit: ExitChoice) -> Shape {
    Shape {
        hops: Hops::new(hops).unwrap(),
        exit,
    }
}

fn seeds(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(1);
        seed
    }
}

fn failed(at: usize, hops: &[NodeId], seen: Seen) -> BuildError {
    let fault = Fault::new(at, seen, "");
    BuildError {
        node: hops[at].clone(),
        between: fault.is_between().then(|| hops[at - 1].clone()),
        fault,
    }
}

proptest! {
    #[test]
    fn the_first_node_is_a_kept_one_as_long_as_one_can_be_had(seed: u64, hops in 2_u32..5, down in 0_usize..3) {
        let (map, nodes, shape) = (map(8), Nodes::default(), shape(hops, ExitChoice::Any));
        let guards = [id(0), id(1)];
        for guard in &guards[..down.min(2)] {
            nodes.failed(std::slice::from_ref(guard), &Fault::new(0, Seen::NotReached, ""), Instant::now());
        }
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &guards };
        let path = draw.path(&Lessons::default(), &mut seeds(seed)).unwrap();
        match down {
            0 => prop_assert_eq!(&path.nodes[0], &id(0)),
            1 => prop_assert_eq!(&path.nodes[0], &id(1)),
            _ => prop_assert!(!guards.contains(&path.nodes[0])),
        }
        prop_assert_eq!(path.nodes.len(), hops as usize);
    }

    #[test]
    fn a_kept_first_node_never_takes_the_exit_that_a_profile_wants(seed: u64) {
        let (map, nodes) = (map(6), Nodes::default());
        let shape = shape(3, ExitChoice::Among { regions: vec![], nodes: vec!["n0".into()] });
        let guards = [id(0), id(1)];
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &guards };
        let path = draw.path(&Lessons::default(), &mut seeds(seed)).unwrap();
        prop_assert_eq!((&path.nodes[0], &path.nodes[2]), (&id(1), &id(0)));
    }

    #[test]
    fn a_kept_first_node_that_is_the_only_exit_left_is_the_exit(seed: u64, hops in 2_u32..5, gone: bool) {
        let (mut map, nodes, shape) = (map(5), Nodes::default(), shape(hops, ExitChoice::Any));
        for node in &mut map.nodes[2..] {
            node.exit.clear();
        }
        if gone {
            for before in [2, 3] {
                nodes.failed(&[id(before), id(1)], &Fault::new(1, Seen::NotReached, ""), Instant::now());
            }
        }
        let guards = [id(0)];
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &guards };
        let path = draw.path(&Lessons::default(), &mut seeds(seed)).unwrap();
        prop_assert_eq!(path.nodes.first() == Some(&id(0)), !gone, "{:?}", path);
        prop_assert_eq!(path.nodes.last(), Some(&id(if gone { 0 } else { 1 })));
    }

    #[test]
    fn a_kept_first_node_stays_where_no_other_would_do_better(seed: u64) {
        let (mut map, nodes, shape) = (map(5), Nodes::default(), shape(3, ExitChoice::Any));
        for node in &mut map.nodes[1..4] {
            node.exit.clear();
        }
        map.nodes[0].exit.clear();
        for before in [2, 3] {
            nodes.failed(&[id(before), id(4)], &Fault::new(1, Seen::NotReached, ""), Instant::now());
        }
        let guards = [id(0)];
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &guards };
        let path = draw.path(&Lessons::default(), &mut seeds(seed)).unwrap();
        prop_assert_eq!((&path.nodes[0], &path.nodes[2]), (&id(0), &id(4)));
    }

    #[test]
    fn what_failed_is_not_tried_again_while_there_is_another_way(seed: u64) {
        let (map, nodes, shape) = (map(5), Nodes::default(), shape(2, ExitChoice::Any));
        let guards = [id(0)];
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &guards };
        let mut lessons = Lessons::default();
        let mut seeds = seeds(seed);
        for _ in 0..4 {
            let path = draw.path(&lessons, &mut seeds).unwrap();
            prop_assert!(!lessons.repeats(&path.nodes));
            lessons.learn(failed(1, &path.nodes, Seen::NotReached));
        }
    }

    #[test]
    fn a_node_that_failed_is_tried_again_where_there_is_no_other(seed: u64) {
        let (map, nodes, shape) = (map(3), Nodes::default(), shape(3, ExitChoice::Any));
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &[] };
        let mut lessons = Lessons::default();
        let path = draw.path(&lessons, &mut seeds(seed)).unwrap();
        lessons.learn(failed(0, &path.nodes, Seen::NotReached));
        prop_assert!(draw.path(&lessons, &mut seeds(seed)).is_ok());
    }

    #[test]
    fn near_exits_are_taken_and_others_only_where_they_cannot_be(seed: u64, gone: bool) {
        let (map, nodes, shape) = (map(5), Nodes::default(), shape(2, ExitChoice::Near));
        let draw = Draw { map: &map, shape: &shape, to: None, nodes: &nodes, guards: &[] };
        let lessons = Lessons {
            near: Some(vec![id(3)]),
            leaving: if gone { vec![id(3)] } else { vec![] },
            ..Lessons::default()
        };
        let path = draw.path(&lessons, &mut seeds(seed)).unwrap();
        prop_assert_eq!(path.nodes[1] == id(3), !gone);
    }
}
