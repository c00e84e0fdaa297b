//! What a cgroup's path tells: unit, slice, container, flatpak, snap. Pure.
//!
//! Sources: systemd's naming (`systemd.unit(5)`, "Desktop Environment Integration"), and how docker, podman, containerd,
//! cri-o, flatpak and snapd name their scopes.

use verdict::Cgroup;

/// Reads `/proc/PID/cgroup`: the unified line, or systemd's own hierarchy where the unified one says only `/`.
pub fn parse_file(text: &str) -> Cgroup {
    let line = |prefix: &str| {
        text.lines()
            .find_map(|line| {
                line.split_once(prefix)
                    .filter(|(id, _)| id.bytes().all(|octet| octet.is_ascii_digit()))
            })
            .map(|(_, path)| path)
    };
    let unified = line("::");
    let named = line(":name=systemd:");
    let path = match (unified, named) {
        (Some("/") | None, Some(named)) => named,
        (Some(unified), _) => unified,
        (None, None) => "",
    };
    parse(path)
}

/// From a path like `/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-12.scope`.
pub fn parse(path: &str) -> Cgroup {
    let mut cgroup = Cgroup {
        path: path.to_owned(),
        ..Cgroup::default()
    };
    let mut under_user_manager = false;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part.ends_with(".slice") {
            part.clone_into(&mut cgroup.slice);
        } else if is_unit(part) {
            let unit = if under_user_manager {
                &mut cgroup.user_unit
            } else {
                &mut cgroup.unit
            };
            part.clone_into(unit);
            under_user_manager |= part.starts_with("user@");
        }
        if let Some(container) = container(part) {
            container.clone_into(&mut cgroup.container);
        }
        if let Some(id) = flatpak(part) {
            cgroup.flatpak = id;
        }
        if let Some(name) = snap(part) {
            name.clone_into(&mut cgroup.snap);
        }
    }
    cgroup
}

fn is_unit(part: &str) -> bool {
    [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| part.len() > suffix.len() && part.ends_with(suffix))
}

/// `docker-ID.scope`, `libpod-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, or the bare id (cgroupfs driver).
fn container(part: &str) -> Option<&str> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    let id = bare.rsplit_once('-').map_or(bare, |(_, id)| id);
    let engine = bare.rsplit_once('-').map(|(engine, _)| engine);
    let known = engine.is_none_or(|engine| {
        matches!(
            engine,
            "docker" | "libpod" | "cri-containerd" | "crio" | "nerdctl"
        )
    });
    (known && id.len() == 64 && id.bytes().all(|octet| octet.is_ascii_hexdigit())).then_some(id)
}

/// `app-flatpak-org.example.App-1234.scope`.
fn flatpak(part: &str) -> Option<String> {
    let bare = part.strip_prefix("app-flatpak-")?.strip_suffix(".scope")?;
    let (id, _instance) = bare.rsplit_once('-')?;
    // systemd writes a hyphen inside a name as \x2d
    Some(id.replace("\\x2d", "-"))
}

/// `snap.NAME.APP-UUID.scope`, `snap.NAME.APP.service`.
fn snap(part: &str) -> Option<&str> {
    is_unit(part).then_some(())?;
    let (name, _) = part.strip_prefix("snap.")?.split_once('.')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_system_service() {
        let cgroup = parse_file("0::/system.slice/ssh.service\n");
        assert_eq!(
            (cgroup.unit.as_str(), cgroup.slice.as_str()),
            ("ssh.service", "system.slice")
        );
    }

    #[test]
    fn a_users_application() {
        let cgroup = parse("/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-12.scope");
        assert_eq!(
            (cgroup.unit.as_str(), cgroup.user_unit.as_str()),
            ("user@1000.service", "app-firefox-12.scope")
        );
    }

    #[test]
    fn containers() {
        let id = "a".repeat(64);
        for path in [
            format!("/system.slice/docker-{id}.scope"),
            format!("/docker/{id}"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
        ] {
            assert_eq!(parse(&path).container, id, "{path}");
        }
        assert_eq!(parse(&format!("/evil-{id}.scope")).container, "");
        assert_eq!(parse("/docker/abcdef").container, "");
    }

    #[test]
    fn flatpaks_and_snaps() {
        let app = parse(
            "/user.slice/user-1.slice/user@1.service/app.slice/app-flatpak-org.mozilla.firefox-4242.scope",
        );
        assert_eq!(app.flatpak, "org.mozilla.firefox");
        assert_eq!(
            parse("/user.slice/snap.chromium.chromium-0f9a.scope").snap,
            "chromium"
        );
        assert_eq!(parse("/system.slice/snap.lxd.daemon.service").snap, "lxd");
    }

    #[test]
    fn the_hybrid_hierarchy_is_systemds_own() {
        let text = "12:pids:/init.scope\n1:name=systemd:/system.slice/cron.service\n0::/\n";
        assert_eq!(parse_file(text).unit, "cron.service");
    }

    proptest! {
        #[test]
        fn parsing_is_total(text: String) {
            let _ = parse_file(&text);
        }
    }
}
