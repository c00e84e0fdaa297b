//! Whether one matcher matches a process, and one rule a flow.

use std::net::IpAddr;

use globset::GlobMatcher;

use super::{CompileError, Facts, globs};
use crate::{
    Direction, Process, Scope,
    policy::model::{Action, Matcher, Profile, Remote, Rule},
};

/// A matcher and the profile that it belongs to.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its place among the profiles.
    pub(super) profile: u32,
    /// How many keys the matcher has.
    pub(super) keys: usize,
    pub(super) matcher: Matcher,
    pub(super) path_glob: Option<GlobMatcher>,
    pub(super) cgroup_glob: Option<GlobMatcher>,
}

impl Candidate {
    pub(super) fn new(number: u32, profile: &Profile, matcher: &Matcher) -> Result<Self, CompileError> {
        let compile = |text: &String| {
            let glob = globs::glob(text);
            glob.map(|glob| glob.compile_matcher())
                .map_err(|source| CompileError::Glob {
                    profile: profile.id.clone(),
                    glob: text.clone(),
                    source,
                })
        };
        // A glob that is the only telling key is compiled in a set with all others.
        let alone = matcher.sha256.is_none() && matcher.script.is_none() && matcher.path.is_none();
        let alone = alone && matcher.flatpak.is_none() && matcher.snap.is_none();
        let alone = alone && matcher.container.is_none() && matcher.unit.is_none();
        let path_glob = matcher.path_glob.as_ref().filter(|_| !alone);
        let cgroup_glob = matcher
            .cgroup
            .as_ref()
            .filter(|_| !alone || matcher.path_glob.is_some());
        Ok(Self {
            profile: number,
            keys: keys(matcher),
            path_glob: path_glob.map(compile).transpose()?,
            cgroup_glob: cgroup_glob.map(compile).transpose()?,
            matcher: matcher.clone(),
        })
    }

    /// All keys but the globs that a set has tried already.
    pub(super) fn matches(&self, process: &Process) -> bool {
        let Matcher {
            path,
            sha256,
            script,
            unit,
            uid,
            flatpak,
            snap,
            container,
            unknown,
            ..
        } = &self.matcher;
        let (executable, cgroup) = (&process.executable, &process.cgroup);
        !unknown
            && (sha256.is_none() || *sha256 == executable.sha256)
            && (path.is_none() || *path == executable.path)
            && (script.is_none() || *script == process.script)
            && unit
                .as_ref()
                .is_none_or(|unit| *unit == cgroup.unit || *unit == cgroup.user_unit)
            && uid.is_none_or(|uid| uid == process.uid)
            && flatpak.as_ref().is_none_or(|flatpak| *flatpak == cgroup.flatpak)
            && snap.as_ref().is_none_or(|snap| *snap == cgroup.snap)
            && container
                .as_ref()
                .is_none_or(|container| cgroup.container.starts_with(container))
            && self
                .path_glob
                .as_ref()
                .is_none_or(|glob| executable.path.as_ref().is_some_and(|path| glob.is_match(path)))
            && self
                .cgroup_glob
                .as_ref()
                .is_none_or(|glob| glob.is_match(&cgroup.path))
    }
}

fn keys(matcher: &Matcher) -> usize {
    let Matcher {
        path,
        path_glob,
        sha256,
        script,
        unit,
        cgroup,
        uid,
        flatpak,
        snap,
        container,
        unknown,
    } = matcher;
    let files = [
        path.is_some(),
        path_glob.is_some(),
        sha256.is_some(),
        script.is_some(),
    ];
    let places = [unit, cgroup, flatpak, snap, container].map(Option::is_some);
    let set = files.into_iter().chain(places).chain([uid.is_some(), *unknown]);
    set.filter(|set| *set).count()
}

/// What a rule says about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is for this flow.
    Match,
    /// It is for this flow if the remote end has a name that none is known of yet.
    NameDecides,
    /// It is not, and this is why.
    Differs(&'static str),
}

/// Everything that is set must match; the cheap questions first.
pub(super) fn outcome(rule: &Rule, facts: &Facts<'_>) -> Outcome {
    let Facts {
        flow,
        scope,
        uid,
        domains,
        now,
        ..
    } = facts;
    let among = |ranges: &[std::ops::RangeInclusive<u16>], port| {
        ranges.is_empty() || flow.protocol.has_ports() && ranges.iter().any(|range| range.contains(&port))
    };
    if rule.expires.is_some_and(|expires| expires <= now.wall) {
        return Outcome::Differs("it has expired");
    }
    if rule
        .direction
        .is_some_and(|direction| direction != flow.direction)
    {
        return Outcome::Differs(match flow.direction {
            Direction::Outgoing => "it is for incoming connections",
            Direction::Incoming => "it is for outgoing connections",
        });
    }
    if !rule.protocols.is_empty() && !rule.protocols.contains(&flow.protocol) {
        return Outcome::Differs("it is for another protocol");
    }
    if !among(&rule.remote_ports, flow.remote.port) {
        return Outcome::Differs("it is for other remote ports");
    }
    if !among(&rule.local_ports, flow.local.port) {
        return Outcome::Differs("it is for other local ports");
    }
    if !rule.icmp_types.is_empty()
        && !flow
            .icmp_type()
            .is_some_and(|kind| rule.icmp_types.contains(&kind))
    {
        return Outcome::Differs("it is for other ICMP types");
    }
    if !rule.uids.is_empty() && !uid.is_some_and(|uid| rule.uids.contains(&uid)) {
        return Outcome::Differs("it is for other users");
    }
    if rule.action == Action::Tunnel && *scope == Scope::Localhost {
        return Outcome::Differs("localhost is never tunnelled");
    }
    remote_outcome(rule, flow.remote.address, *scope, domains)
}

fn remote_outcome(rule: &Rule, address: IpAddr, scope: Scope, domains: &[&str]) -> Outcome {
    if rule.remotes.is_empty()
        || rule
            .remotes
            .iter()
            .any(|remote| is_at(remote, address, scope, domains))
    {
        return Outcome::Match;
    }
    let by_name = rule
        .remotes
        .iter()
        .any(|remote| matches!(remote, Remote::Domain(_) | Remote::Zone(_)));
    match (by_name, domains.is_empty()) {
        (true, true) => Outcome::NameDecides,
        _ => Outcome::Differs("it is for other remote ends"),
    }
}

fn is_at(remote: &Remote, address: IpAddr, scope: Scope, domains: &[&str]) -> bool {
    covers_address(remote, address, scope) || domains.iter().any(|domain| covers_name(remote, domain))
}

/// The remote is named by address or scope, and this is one of its addresses.
pub(super) fn covers_address(remote: &Remote, address: IpAddr, scope: Scope) -> bool {
    match remote {
        Remote::Network(network) => network.contains(&address),
        // Addresses of the two families compare too, but no IPv4 address lies between two IPv6 ones.
        Remote::Range(first, last) => *first <= address && address <= *last,
        Remote::Scope(wanted) => *wanted == scope,
        Remote::Domain(_) | Remote::Zone(_) => false,
    }
}

/// The remote is named by name, and this is one of its names.
pub(super) fn covers_name(remote: &Remote, name: &str) -> bool {
    match remote {
        Remote::Domain(wanted) => name.eq_ignore_ascii_case(wanted),
        Remote::Zone(zone) => is_in_zone(name, zone),
        Remote::Network(_) | Remote::Range(..) | Remote::Scope(_) => false,
    }
}

/// The zone itself, or a name below it.
fn is_in_zone(domain: &str, zone: &str) -> bool {
    let Some(start) = domain.len().checked_sub(zone.len()) else {
        return false;
    };
    let (Some(end), Some(above)) = (domain.get(start..), domain.get(..start)) else {
        return false;
    };
    end.eq_ignore_ascii_case(zone) && (above.is_empty() || above.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_ends_at_a_label() {
        for (domain, is_in) in [
            ("example.org", true),
            ("www.example.org", true),
            ("a.b.Example.ORG", true),
            ("badexample.org", false),
            ("org", false),
            ("example.org.evil.net", false),
            ("é.org", false),
        ] {
            assert_eq!(is_in_zone(domain, "example.org"), is_in, "{domain}");
        }
    }
}
