//! The client's address and certificate are known to the service when `LingerIo` wraps the
//! connection.

use std::net::SocketAddr;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig},
};
use tower_bodyguard::{BodyGuardLayer, Linger};

use super::stage::{Client, FORMS, LIMIT, PUT, assert_refused, serve, serve_by};

fn remote_addr(metadata: &MetadataMap) -> SocketAddr {
    let addr = metadata.get("remote-addr").expect("it is known");
    addr.to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_is_known() {
    for form in FORMS {
        let client = Client::connect(serve(form, LIMIT).await).await;
        let response = client.send(PUT, 1).await.unwrap();
        assert!(remote_addr(response.metadata()).ip().is_loopback());
        assert_eq!(response.metadata().get_bin("peer-cert-bin"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_tls_the_certificate_is_known_too() {
    let [server, client] =
        ["localhost", "client"].map(|name| generate_simple_self_signed([name.to_owned()]).unwrap());
    let server_tls = ServerTlsConfig::new()
        .identity(identity(&server))
        .client_ca_root(Certificate::from_pem(client.cert.pem()));
    let client_tls = ClientTlsConfig::new()
        .identity(identity(&client))
        .ca_certificate(Certificate::from_pem(server.cert.pem()))
        .domain_name("localhost");
    for form in FORMS {
        let server = Server::builder().tls_config(server_tls.clone()).unwrap();
        let addr = serve_by(server, &Linger::default(), form, BodyGuardLayer::new(LIMIT)).await;
        let endpoint = Endpoint::from_shared(format!("https://{addr}")).unwrap();
        let endpoint = endpoint.tls_config(client_tls.clone()).unwrap();
        let calls = Client::connect_by(endpoint).await;

        let response = calls.send(PUT, 1).await.unwrap();
        assert!(remote_addr(response.metadata()).ip().is_loopback());
        let cert = response.metadata().get_bin("peer-cert-bin").unwrap();
        assert_eq!(cert.to_bytes().unwrap(), client.cert.der().as_ref());
        assert_refused(calls.send(PUT, 20_000_000).await);
        assert_refused(calls.send(PUT, 20_000_000).await);
    }
}

fn identity(of: &CertifiedKey<KeyPair>) -> Identity {
    Identity::from_pem(of.cert.pem(), of.signing_key.serialize_pem())
}
