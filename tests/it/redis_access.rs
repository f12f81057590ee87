//! The ways to log in to Redis: TLS with a private authority and client certificates, users, passwords in files.

use crate::support::{
    RedisServer,
    certificates::{Certificates, certificates},
    group::free_port,
    process::Place,
};

/// A server that speaks TLS alone beside its socket, and demands client certificates.
fn server_with(certificates: &Certificates) -> (RedisServer, u16) {
    let port = free_port();
    let options = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        "server.pem",
        "--tls-key-file",
        "server.key",
        "--tls-ca-cert-file",
        "ca.pem",
        "--tls-auth-clients",
        "yes",
    ];
    let server = RedisServer::start_as(&[crate::support::program()], &options, |dir| {
        let (certificate, key) = &certificates.server;
        for (name, text) in
            [("ca.pem", &certificates.authority), ("server.pem", certificate), ("server.key", key)]
        {
            std::fs::write(dir.join(name), text).expect("the directory is ours");
        }
    });
    (server, port)
}

fn place(port: u16, certificates: &Certificates, keys: &str) -> Place {
    let place = Place::new(&format!("[redis]\nurl = \"rediss://localhost:{port}\"\n{keys}"));
    place.write("ca.pem", &certificates.authority);
    place.write("client.pem", &certificates.client.0);
    place.write("client.key", &certificates.client.1);
    place.write("password", "geheim\n");
    place
}

#[tokio::test]
async fn tls_takes_a_private_authority_and_a_client_certificate() {
    let certificates = certificates();
    let (_server, port) = server_with(&certificates);
    let ca = "tls.ca_file = \"ca.pem\"\n";
    let client = "tls.cert_file = \"client.pem\"\ntls.key_file = \"client.key\"\n";
    let login = "username = \"overdue\"\npassword_file = \"password\"\n";

    let whole =
        place(port, &certificates, &format!("{ca}{client}{login}[queue.orders]\nhandler.type = \"log\"\n"));
    let serve = whole.serve().await;
    whole.run(&["schedule", "orders", "by-tls", "--in", "1ms"]).ok();
    serve.says("id=by-tls").await;
    serve.stop().await;

    let timeout = "connect_timeout = \"5s\"\n";
    let without_client = place(port, &certificates, &format!("{timeout}{ca}{login}"));
    without_client.run(&["stats"]).fails(1, &["cannot be reached"]);
    let without_ca = place(port, &certificates, &format!("{timeout}{client}{login}"));
    without_ca.run(&["stats"]).fails(1, &["cannot be reached", "certificate"]);
    let without_login = place(
        port,
        &certificates,
        &format!("{timeout}{ca}{client}username = \"overdue\"\npassword = \"falsch\"\n"),
    );
    let said = without_login.run(&["stats"]).fails(1, &["refused the user or the password"]);
    assert!(!said.contains("falsch"), "{said}");
}

#[tokio::test]
async fn files_that_are_missing_or_half_named_are_said() {
    let certificates = certificates();
    let missing = place(1, &certificates, "tls.ca_file = \"nowhere.pem\"\n");
    missing.run(&["stats"]).fails(2, &["redis.tls.ca_file", "nowhere.pem", "cannot be read"]);
    let half = place(1, &certificates, "tls.cert_file = \"client.pem\"\n");
    half.run(&["stats"]).fails(2, &["redis.tls.key_file", "is missing"]);
    let no_pem = place(1, &certificates, "tls.ca_file = \"password\"\n");
    no_pem.run(&["stats"]).fails(2, &["redis.tls.ca_file", "holds no certificate"]);
    let twice = place(1, &certificates, "password = \"a\"\npassword_file = \"password\"\n");
    twice.run(&["stats"]).fails(2, &["redis.password", "redis.password_file"]);
    let shown = place(1, &certificates, "password = \"geheim\"\n").run(&["config", "show"]).ok();
    assert!(shown.contains("***") && !shown.contains("geheim"), "{shown}");
}
