//! Names and answers that a program does not get.

use integration::{profile, world::INTERNET_V4};

use super::stage::{Stage, path_of};

const LISTS: &str = "[[list]]\nname = \"our-ads\"\ncategories = [\"ads\"]\nfile = \"lists/ads\"\n";

#[test]
fn a_refused_name_is_never_asked_for_and_says_why() {
    let stage = Stage::new("dns-refused", &[], "");
    let path = path_of(&stage.world, "refused");
    let rule = "[[rule]]\naction = \"block\"\nremote = \"*.fine.example\"\n";
    stage.world.profile("refused", &profile(&path, "allow", rule));
    let (refused, other) = (stage.dig("refused"), stage.dig("other"));
    integration::eventually("the rule is in force", || {
        (refused.ask(&["@127.0.0.1", "www.fine.example"]).status() == "NXDOMAIN").then_some(())
    });
    let said = refused.ask(&["@127.0.0.1", "www.fine.example"]);
    assert!(
        said.0.contains("EDE: 15") && said.0.contains("refused#1"),
        "{}",
        said.0
    );
    let asked = stage.nameserver.asked("www.fine.example");
    refused.ask(&["@127.0.0.1", "new.www.fine.example"]);
    assert_eq!(stage.nameserver.asked("new.www.fine.example"), 0);
    let said = other.ask(&["@127.0.0.1", "www.fine.example"]);
    assert_eq!(
        said.answers(),
        [INTERNET_V4.to_string()],
        "another program's rule: {}",
        said.0
    );
    assert!(stage.nameserver.asked("www.fine.example") <= asked + 1);
}

#[test]
fn who_may_reach_one_name_cannot_tell_anything_by_others() {
    let stage = Stage::new("dns-tunnel", &[], "");
    let rule = "[[rule]]\naction = \"allow\"\nremote = \"fine.example\"\n";
    // nobody can be asked yet, so that `ask` is a refusal as well
    for action in ["block", "ask", "drop"] {
        let path = path_of(&stage.world, action);
        stage.world.profile(action, &profile(&path, action, rule));
        let strict = stage.dig(action);
        integration::eventually("the profile is in force", || {
            (strict.ask(&["@127.0.0.1", "other.example"]).status() == "NXDOMAIN").then_some(())
        });
        assert_eq!(
            strict.ask(&["@127.0.0.1", "fine.example"]).answers(),
            [INTERNET_V4.to_string()]
        );
        for number in 1..3 {
            let name = format!("secret-{number}.{action}.example");
            for server in ["@127.0.0.1", "@203.0.113.53"] {
                for transport in ["+notcp", "+tcp"] {
                    let said = strict.ask(&[server, transport, &name, "TXT"]);
                    assert_eq!(said.status(), "NXDOMAIN", "{action} {server}: {}", said.0);
                }
            }
            assert_eq!(stage.nameserver.asked(&name), 0, "{name} left the host");
        }
    }
}

#[test]
fn listed_names_and_their_masks_are_refused_where_the_profile_wants_it() {
    let lists = [("ads", "# ads\n||ads.example^\n")];
    let stage = Stage::with_lists("dns-lists", &[], LISTS, &lists);
    let path = path_of(&stage.world, "unfiltered");
    let text = profile(&path, "allow", "").replace("[settings]\n", "[settings]\nblock_lists = []\n");
    stage.world.profile("unfiltered", &text);
    let (filtered, unfiltered) = (stage.dig("filtered"), stage.dig("unfiltered"));
    integration::eventually("the profile is in force", || {
        (unfiltered.ask(&["@127.0.0.1", "ads.example"]).status() == "NOERROR").then_some(())
    });
    for name in ["ads.example", "x.ads.example", "mask.example"] {
        let said = filtered.ask(&["@127.0.0.1", name]);
        assert_eq!(said.status(), "NXDOMAIN", "{name}: {}", said.0);
        assert!(said.0.contains("our-ads"), "{}", said.0);
    }
    assert_eq!(
        unfiltered.ask(&["@127.0.0.1", "mask.example"]).status(),
        "NOERROR"
    );
}

#[test]
fn a_name_of_the_internet_does_not_point_inside() {
    let stage = Stage::new("dns-rebinding", &[], "");
    let dig = stage.dig("rebinds");
    let said = dig.ask(&["@127.0.0.1", "inside.example"]);
    assert_eq!(said.status(), "NXDOMAIN", "{}", said.0);
    assert!(said.0.contains("rebinding"), "{}", said.0);
}
