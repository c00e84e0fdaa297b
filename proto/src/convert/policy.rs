//! Profiles, rules, snapshots.

mod rule;
mod tunnel;

use verdict::policy::{
    model::{Action, Global, Matcher, Pause, Profile, Resolver, Settings, SinceBoot, Snapshot},
    tunnel::Tunnel,
};

use super::{
    Error, each, optional_word,
    process::{path, sha256, trusted},
    required, word, words,
};
use crate::policy::v1;

words!(v1::Action, Action, [Allow, Block, Drop, Ask, Tunnel]);

impl From<&Snapshot> for v1::Snapshot {
    /// `made` stays unset: a snapshot does not know the time.
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            version: snapshot.version,
            global: Some((&snapshot.global).into()),
            profiles: snapshot.profiles.iter().map(Into::into).collect(),
            made: None,
            pause: snapshot.pause.map(Into::into),
        }
    }
}

impl TryFrom<v1::Snapshot> for Snapshot {
    type Error = Error;

    fn try_from(wire: v1::Snapshot) -> Result<Self, Error> {
        Ok(Self {
            version: wire.version,
            global: required("global", wire.global)?,
            profiles: each("profiles", wire.profiles)?,
            pause: wire.pause.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<Pause> for v1::Pause {
    fn from(pause: Pause) -> Self {
        Self {
            from: Some(pause.from.into()),
            until: Some(pause.until.into()),
            began: pause.began.map(Into::into),
        }
    }
}

impl TryFrom<v1::Pause> for Pause {
    type Error = Error;

    fn try_from(wire: v1::Pause) -> Result<Self, Error> {
        let at = |field, wire: Option<prost_types::Timestamp>| {
            let wire = wire.ok_or_else(|| Error::missing(field))?;
            std::time::SystemTime::try_from(wire)
                .map_err(|error| Error::invalid(field, error, "a time that this host can tell"))
        };
        Ok(Self {
            from: at("from", wire.from)?,
            until: at("until", wire.until)?,
            began: wire.began.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<SinceBoot> for v1::SinceBoot {
    fn from(moment: SinceBoot) -> Self {
        Self {
            boot_id: moment.boot.to_vec(),
            // beyond three hundred milliard years it is not told
            elapsed: moment.elapsed.try_into().ok(),
        }
    }
}

impl TryFrom<v1::SinceBoot> for SinceBoot {
    type Error = Error;

    fn try_from(wire: v1::SinceBoot) -> Result<Self, Error> {
        let elapsed = wire.elapsed.ok_or_else(|| Error::missing("elapsed"))?;
        Ok(Self {
            boot: wire
                .boot_id
                .try_into()
                .map_err(|given: Vec<u8>| Error::invalid("boot_id", given.len(), "16 octets"))?,
            elapsed: elapsed
                .try_into()
                .map_err(|error| Error::invalid("elapsed", error, "a span of time that is not negative"))?,
        })
    }
}

impl From<&Global> for v1::Global {
    fn from(global: &Global) -> Self {
        Self {
            settings: Some((&global.settings).into()),
            rules: global.rules.iter().map(Into::into).collect(),
            redirect_dns: global.redirect_dns,
            incoming_refusal: v1::Action::from(global.incoming_refusal).into(),
            ask_timeout_seconds: global.ask_timeout_seconds,
            encrypted_dns_resolvers: global
                .encrypted_dns_resolvers
                .iter()
                .map(Resolver::to_string)
                .collect(),
        }
    }
}

impl TryFrom<v1::Global> for Global {
    type Error = Error;

    fn try_from(wire: v1::Global) -> Result<Self, Error> {
        Ok(Self {
            settings: required("settings", wire.settings)?,
            rules: each("rules", wire.rules)?,
            redirect_dns: wire.redirect_dns,
            incoming_refusal: match word::<v1::Action, _>("incoming_refusal", wire.incoming_refusal)? {
                refusal @ (Action::Drop | Action::Block) => refusal,
                other => return Err(Error::invalid("incoming_refusal", other.text(), "drop or block")),
            },
            ask_timeout_seconds: wire.ask_timeout_seconds,
            encrypted_dns_resolvers: wire
                .encrypted_dns_resolvers
                .iter()
                .map(|text| {
                    let resolver = Resolver::parse(text);
                    resolver.ok_or_else(|| {
                        Error::invalid("encrypted_dns_resolvers", text, "an address, a network or a name")
                    })
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Profile> for v1::Profile {
    fn from(profile: &Profile) -> Self {
        Self {
            id: profile.id.to_string(),
            name: profile.name.clone(),
            matchers: profile.matchers.iter().map(Into::into).collect(),
            settings: Some((&profile.settings).into()),
            rules: profile.rules.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Profile> for Profile {
    type Error = Error;

    fn try_from(wire: v1::Profile) -> Result<Self, Error> {
        if wire.id.is_empty() {
            return Err(Error::missing("id"));
        }
        Ok(Self {
            id: wire.id.into(),
            name: wire.name,
            matchers: each("matchers", wire.matchers)?,
            settings: required("settings", Some(wire.settings.unwrap_or_default()))?,
            rules: each("rules", wire.rules)?,
        })
    }
}

impl From<&Settings> for v1::Settings {
    fn from(settings: &Settings) -> Self {
        let action = |action: Option<Action>| action.map_or(v1::Action::Unspecified, Into::into).into();
        Self {
            default_action: action(settings.default_action),
            ask_timeout_action: action(settings.ask_timeout_action),
            block_incoming: settings.block_incoming,
            block_lan: settings.block_lan,
            block_internet: settings.block_internet,
            block_direct: settings.block_direct,
            block_encrypted_dns: settings.block_encrypted_dns,
            block_lists: settings
                .block_lists
                .clone()
                .map(|categories| v1::Categories { categories }),
            tunnel: (settings.tunnel != Tunnel::default()).then(|| (&settings.tunnel).into()),
        }
    }
}

impl TryFrom<v1::Settings> for Settings {
    type Error = Error;

    fn try_from(wire: v1::Settings) -> Result<Self, Error> {
        let ask_timeout_action =
            optional_word::<v1::Action, _>("ask_timeout_action", wire.ask_timeout_action)?;
        if ask_timeout_action == Some(Action::Ask) {
            return Err(Error::invalid(
                "ask_timeout_action",
                "ask",
                "allow, block, drop or tunnel",
            ));
        }
        Ok(Self {
            default_action: optional_word::<v1::Action, _>("default_action", wire.default_action)?,
            ask_timeout_action,
            block_incoming: wire.block_incoming,
            block_lan: wire.block_lan,
            block_internet: wire.block_internet,
            block_direct: wire.block_direct,
            block_encrypted_dns: wire.block_encrypted_dns,
            block_lists: wire.block_lists.map(|lists| lists.categories),
            tunnel: required("tunnel", Some(wire.tunnel.unwrap_or_default()))?,
        })
    }
}

impl From<&Matcher> for v1::Matcher {
    fn from(matcher: &Matcher) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            path: trusted(matcher.path.as_deref()),
            path_glob: text(&matcher.path_glob),
            sha256: matcher.sha256.map(Into::into).unwrap_or_default(),
            script: trusted(matcher.script.as_deref()),
            unit: text(&matcher.unit),
            cgroup: text(&matcher.cgroup),
            uid: matcher.uid,
            flatpak: text(&matcher.flatpak),
            snap: text(&matcher.snap),
            container: text(&matcher.container),
            unknown: matcher.unknown,
        }
    }
}

impl TryFrom<v1::Matcher> for Matcher {
    type Error = Error;

    fn try_from(wire: v1::Matcher) -> Result<Self, Error> {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let matcher = Self {
            path: path("path", wire.path)?,
            path_glob: text(wire.path_glob),
            sha256: sha256(&wire.sha256)?,
            script: path("script", wire.script)?,
            unit: text(wire.unit),
            cgroup: text(wire.cgroup),
            uid: wire.uid,
            flatpak: text(wire.flatpak),
            snap: text(wire.snap),
            container: text(wire.container),
            unknown: wire.unknown,
        };
        // All that is set must match: nothing set would be everybody.
        if matcher == Self::default() {
            return Err(Error::missing(
                "path, path_glob, sha256, script, unit, cgroup, uid, flatpak, snap, container or unknown",
            ));
        }
        Ok(matcher)
    }
}
