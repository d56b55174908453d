//! Tests of who gets through to whom.

use super::*;
use proto::ids::{ClusterId, NodeId};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, TlsStream};

const CLUSTER: ClusterId = ClusterId(0xabc);

fn of(authority: &Authority, node: u32) -> Credentials {
    Credentials::issue(authority, vec![authority.certificate.clone()], CLUSTER, NodeId(node)).expect("an authority")
}

fn identities(credentials: &Credentials) -> Identities {
    Identities::new(CLUSTER, credentials).expect("credentials")
}

/// Shakes hands and sends a byte each way; says whether the server takes the client for node `claimed`.
async fn meet(
    server: &Identities,
    (connector, name): (TlsConnector, ServerName<'static>),
    claimed: NodeId,
) -> std::io::Result<bool> {
    let (near, far) = tokio::io::duplex(16 << 10);
    let serve = async {
        let mut stream = TlsStream::from(server.acceptor().accept(far).await?);
        stream.read_u8().await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        std::io::Result::Ok(server.is_of(stream.get_ref().1.peer_certificates(), claimed))
    };
    let dial = async {
        let mut stream = connector.connect(name, near).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let (taken, answered) = futures_util::future::join(serve, dial).await;
    answered?;
    taken
}

#[tokio::test]
async fn a_node_is_taken_only_for_itself_and_dialled_only_by_its_name() {
    let authority = Authority::mint(CLUSTER).unwrap();
    let (one, two) = (identities(&of(&authority, 1)), identities(&of(&authority, 2)));
    assert!(meet(&one, two.connector(NodeId(1)).unwrap(), NodeId(2)).await.unwrap());
    assert!(!meet(&one, two.connector(NodeId(1)).unwrap(), NodeId(3)).await.unwrap(), "another's id");
    assert!(meet(&one, two.connector(NodeId(3)).unwrap(), NodeId(2)).await.is_err(), "another node answers");
    let foreign = identities(&of(&Authority::mint(CLUSTER).unwrap(), 2));
    assert!(meet(&one, foreign.connector(NodeId(1)).unwrap(), NodeId(2)).await.is_err(), "another authority");
}

#[tokio::test]
async fn a_joining_machine_talks_only_to_a_cluster_with_the_pinned_key() {
    let (ours, other) = (Authority::mint(CLUSTER).unwrap(), Authority::mint(CLUSTER).unwrap());
    let any = || ServerName::try_from("any.internal").unwrap();
    let joiner = |pin| (joiner_config(vec![pin]).unwrap(), any());
    let one = identities(&of(&ours, 1));
    assert!(!meet(&one, joiner(ours.pin()), NodeId(2)).await.unwrap(), "it has no certificate");
    assert!(meet(&one, joiner(other.pin()), NodeId(2)).await.is_err());
    // Whoever shows the pinned certificate without having its key signs nothing by it.
    let forged = Credentials { issuer: ours.certificate.clone(), ..of(&other, 1) };
    assert!(meet(&identities(&forged), joiner(ours.pin()), NodeId(2)).await.is_err());
}

#[tokio::test]
async fn both_authorities_are_good_while_one_takes_the_others_place() {
    let (old, new) = (Authority::mint(CLUSTER).unwrap(), Authority::mint(CLUSTER).unwrap());
    let both = vec![old.certificate.clone(), new.certificate.clone()];
    let node = |authority, number| Credentials { trusted: both.clone(), ..of(authority, number) };
    let (one, two) = (identities(&node(&old, 1)), identities(&node(&new, 2)));
    assert!(meet(&one, two.connector(NodeId(1)).unwrap(), NodeId(2)).await.unwrap());
    assert!(meet(&two, one.connector(NodeId(2)).unwrap(), NodeId(1)).await.unwrap());
    one.replace(&of(&new, 1)).unwrap();
    assert!(meet(&one, two.connector(NodeId(1)).unwrap(), NodeId(2)).await.unwrap());
    let late = identities(&of(&old, 3));
    assert!(meet(&one, late.connector(NodeId(1)).unwrap(), NodeId(3)).await.is_err(), "the old one has ended");
}

#[test]
fn what_a_request_says_about_itself_does_not_get_into_the_certificate() {
    let authority = Authority::mint(CLUSTER).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wants = rcgen::CertificateParams::new(vec!["n1.everdesk.internal".to_owned()]).unwrap();
    wants.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = wants.serialize_request(&key).map(|request| request.der().to_vec());
    // An extension that asks to be an authority is refused or dropped, never granted.
    let Ok(signed) = authority.sign(&request.unwrap(), &node_name(CLUSTER, NodeId(2))) else { return };
    let signed = rustls::pki_types::CertificateDer::from(signed);
    let parsed = webpki::EndEntityCert::try_from(&signed).unwrap();
    let names: Vec<&str> = parsed.valid_dns_names().collect();
    assert_eq!(names, [node_name(CLUSTER, NodeId(2))]);
}

#[test]
fn a_pin_survives_its_text_and_garbage_is_no_request() {
    let authority = Authority::mint(CLUSTER).unwrap();
    assert_eq!(authority.pin().to_string().parse(), Ok(authority.pin()));
    assert!("short".parse::<Pin>().is_err());
    assert!(authority.sign(b"garbage", "x").is_err());
    assert_eq!(format!("{authority:?}"), format!("Authority({})", authority.pin()), "no key in logs");
}
