//! What `global.toml` says beside its rules, as it is told.

use proto::policy::v1;
use verdict::policy::{
    file::{self, FileError},
    model::{Global, Settings},
    tunnel::Tunnel,
};

/// What the file itself says. `users`: uids by name.
pub(crate) fn own(text: &str, users: &dyn Fn(&str) -> Option<u32>) -> Result<v1::Switches, FileError> {
    let global = file::parse_global("global.toml", text, users)?;
    let said = text.parse::<toml_edit::DocumentMut>().unwrap_or_default();
    let mut switches = of(&global);
    // these three have a value where nothing is said as well
    if !said.contains_key("redirect_dns") {
        switches.redirect_dns = None;
    }
    if !said.contains_key("incoming_refusal") {
        switches.incoming_refusal = v1::Action::Unspecified.into();
    }
    if !said.contains_key("ask_timeout_seconds") {
        switches.ask_timeout_seconds = None;
    }
    Ok(switches)
}

/// What holds: what is not said is as shipped.
pub(crate) fn in_force(global: &Global) -> Result<v1::Switches, FileError> {
    let shipped = file::shipped_global()?.settings;
    let own = &global.settings;
    let settings = Settings {
        default_action: own.default_action.or(shipped.default_action),
        ask_timeout_action: own.ask_timeout_action.or(shipped.ask_timeout_action),
        block_incoming: own.block_incoming.or(shipped.block_incoming),
        block_lan: own.block_lan.or(shipped.block_lan),
        block_internet: own.block_internet.or(shipped.block_internet),
        block_direct: own.block_direct.or(shipped.block_direct),
        block_encrypted_dns: own.block_encrypted_dns.or(shipped.block_encrypted_dns),
        block_lists: own.block_lists.clone().or(shipped.block_lists),
        tunnel: Tunnel {
            hops: own.tunnel.hops.or(shipped.tunnel.hops),
            exit: own.tunnel.exit.clone().or(shipped.tunnel.exit),
            isolate: own.tunnel.isolate.or(shipped.tunnel.isolate),
        },
    };
    Ok(of(&Global {
        settings,
        ..global.clone()
    }))
}

fn of(global: &Global) -> v1::Switches {
    let settings = v1::Settings::from(&global.settings);
    v1::Switches {
        default_action: settings.default_action,
        ask_timeout_action: settings.ask_timeout_action,
        block_incoming: settings.block_incoming,
        block_lan: settings.block_lan,
        block_internet: settings.block_internet,
        block_direct: settings.block_direct,
        block_encrypted_dns: settings.block_encrypted_dns,
        block_lists: settings.block_lists,
        redirect_dns: Some(global.redirect_dns),
        incoming_refusal: v1::Action::from(global.incoming_refusal).into(),
        ask_timeout_seconds: Some(global.ask_timeout_seconds),
        tunnel: settings.tunnel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_holds_are_told_apart() {
        let none = |_: &str| None;
        let said = own("[settings]\nblock_lan = true\n", &none).unwrap();
        assert_eq!(
            said,
            v1::Switches {
                block_lan: Some(true),
                ..v1::Switches::default()
            }
        );
        let global = file::parse_global("global.toml", "[settings]\nblock_lan = true\n", &none).unwrap();
        let holds = in_force(&global).unwrap();
        assert_eq!((holds.block_lan, holds.block_incoming), (Some(true), Some(true)));
        assert_eq!(holds.redirect_dns, Some(true));
        assert_eq!(holds.tunnel.unwrap().hops, 3);
    }
}
