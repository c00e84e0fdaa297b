use std::os::unix::fs::MetadataExt as _;

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus as Answer, health_client::HealthClient,
};

use super::*;

const ABOUT: About = About {
    name: "x",
    version: "1",
};

fn paths(root: &Path) -> Paths {
    let args = crate::CommonArgs {
        root: Some(root.to_owned()),
        ..crate::CommonArgs::default()
    };
    Paths::new(&args, ABOUT.name)
}

#[tokio::test]
async fn health_over_the_socket_is_that_of_the_status() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    let listener = bind(&paths, &ABOUT).unwrap();
    assert_eq!(fs::metadata(paths.socket("x")).unwrap().mode() & 0o777, 0o660);
    let (status, shutdown) = (Status::new(ABOUT), CancellationToken::new());
    let served = tokio::spawn(serve(
        listener,
        Routes::default(),
        Callers::default(),
        status.clone(),
        shutdown.clone(),
    ));
    let mut client = HealthClient::new(telemetry::traced(channel(&paths.socket("x"))));
    let watch = client.watch(HealthCheckRequest::default()).await.unwrap();
    let mut answers = watch.into_inner();
    status.ready();
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        if answer.status() == Answer::Serving {
            break;
        }
    }
    shutdown.cancel();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    drop(bind(&paths, &ABOUT).unwrap());
    assert!(paths.socket("x").exists(), "a killed service leaves its socket");
    let _live = bind(&paths, &ABOUT).unwrap();
    let error = format!("{:#}", bind(&paths, &ABOUT).unwrap_err());
    assert!(
        error.contains("already running")
            && error.contains("x.sock")
            && error.contains(&std::process::id().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let paths = paths(root.path());
    fs::create_dir_all(&paths.runtime).unwrap();
    fs::write(paths.socket("x"), "somebody's").unwrap();
    assert!(bind(&paths, &ABOUT).is_err());
    assert_eq!(fs::read_to_string(paths.socket("x")).unwrap(), "somebody's");
}
