//! The real units: one file switches export on for all of them, and none of them gets a network for it.

use integration::{Booted, booted::text};

use crate::{COLLECTOR, collector::Collector, everything::ALL};

const SETTINGS: &str = "OTEL_EXPORTER_OTLP_ENDPOINT=unix:///run/portmaster/otlp.sock\n\
    OTEL_METRIC_EXPORT_INTERVAL=200\nOTEL_BSP_SCHEDULE_DELAY=100\nOTEL_BLRP_SCHEDULE_DELAY=100\n";
const PROXY: &str = "portmaster-telemetry.service";

#[test]
fn one_file_has_every_unit_export_through_one_socket() {
    let host = Booted::builder("telemetry")
        .file("/etc/portmaster/telemetry.env", SETTINGS)
        .start();
    let collector = Collector::start(&host.host, COLLECTOR);
    host.systemctl("enable --now portmaster-telemetry.socket");
    for service in ALL {
        let program = service.program();
        collector.until(&format!("{program} exports its figures"), |received| {
            received
                .metrics(&program)
                .contains_key("portmaster.health")
                .then_some(())
        });
    }
    collector.until("the service counts a decision of its own", |received| {
        received
            .metrics("portmaster-interceptor")
            .contains_key("portmaster.stage.duration")
            .then_some(())
    });
    let said = host.attempt(&format!(
        "systemd-analyze security --no-pager --threshold=20 {PROXY}; \
         systemd-analyze verify --man=no /usr/lib/systemd/system/portmaster-telemetry.*"
    ));
    assert!(said.status.success(), "{}", text(&said));
    // who is no member of the group may not even say something
    let knocks =
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/portmaster/otlp.sock\")'";
    let refused = text(&host.attempt_as("games", knocks));
    assert!(refused.contains("PermissionError"), "{refused}");
}
