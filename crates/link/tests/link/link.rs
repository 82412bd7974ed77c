//! A node that is connected.

use std::time::{Duration, Instant, SystemTime};

use api::node::{DesiredInstances, DesiredReplica, FromNode, LinkClosed, NodeEnd, NodeLink, ProbeOutcome, ToNode};
use link::frame::{Opening, Reply, VERSION};
use link::{Connection, ConnectionState, Identity, Refusal, SUSPECT_AFTER, TlsLink, connect};
use tokio::time::{sleep, timeout};

use crate::support::{Installation, Raw, Way, node_id, report, soon};

fn wish(count: usize) -> ToNode {
    let replica =
        DesiredReplica { content: "00".repeat(32).try_into().unwrap(), policy: api::content::ReplicaPolicy::Pinned };
    ToNode::Desired(DesiredInstances { replicas: vec![replica; count], ..DesiredInstances::default() })
}

fn probed(request: u64) -> FromNode {
    FromNode::Probed { request, outcome: ProbeOutcome::Alive }
}

async fn connected(installation: &mut Installation) -> (NodeEnd, Connection, TlsLink) {
    let identity = installation.joined(1).await;
    let (end, connection) = connect(vec![installation.address.to_string()], identity, installation.dir(1));
    let link = installation.next_link().await;
    assert_eq!(link.node(), node_id(1));
    (end, connection, link)
}

async fn until(connection: &Connection, good: impl FnMut(&ConnectionState) -> bool) {
    soon(connection.state().wait_for(good)).await.unwrap();
}

fn is_connected(state: &ConnectionState) -> bool {
    matches!(state, ConnectionState::Connected { .. })
}

#[tokio::test]
async fn messages_go_both_ways_and_a_quiet_link_is_not_silent() {
    let mut installation = Installation::new().await;
    let (mut end, connection, mut link) = connected(&mut installation).await;
    until(&connection, is_connected).await;
    link.send(wish(3)).await.unwrap();
    assert_eq!(soon(end.from_control.recv()).await, Some(wish(3)));
    end.to_control.send(report(1)).await.unwrap();
    assert_eq!(soon(link.receive()).await, Some(report(1)));
    // Nobody says anything but beats.
    let quiet = timeout(Duration::from_millis(1500), link.silence(SUSPECT_AFTER)).await;
    assert!(quiet.is_err(), "a quiet link was taken for a silent one");
    soon(link.heard().sound()).await.unwrap();
}

#[tokio::test]
async fn the_agent_s_last_words_arrive_before_the_link_ends() {
    let mut installation = Installation::new().await;
    let (end, connection, mut link) = connected(&mut installation).await;
    for request in 0..50 {
        end.to_control.send(probed(request)).await.unwrap();
    }
    end.to_control.send(report(9)).await.unwrap();
    connection.close(Duration::from_secs(5)).await;
    let mut received = Vec::new();
    while let Some(message) = soon(link.receive()).await {
        received.push(message);
    }
    assert!(received.contains(&report(9)));
    assert_eq!(received.len(), 51);
    assert_eq!(link.send(wish(0)).await, Err(LinkClosed));
    drop(end);
}

#[tokio::test]
async fn dropping_the_node_s_end_ends_the_link() {
    let mut installation = Installation::new().await;
    let (end, mut connection, mut link) = connected(&mut installation).await;
    drop(end);
    assert_eq!(soon(link.receive()).await, None);
    assert_eq!(soon(connection.ended()).await, None);
}

#[tokio::test]
async fn receiving_is_safe_to_cancel() {
    let mut installation = Installation::new().await;
    let (end, _connection, mut link) = connected(&mut installation).await;
    let sender = tokio::spawn(async move {
        for request in 0..200 {
            end.to_control.send(probed(request)).await.unwrap();
            sleep(Duration::from_micros(700)).await;
        }
        end
    });
    let mut expected = 0;
    let start = Instant::now();
    while expected < 200 {
        assert!(start.elapsed() < Duration::from_secs(20), "{expected} came");
        if let Ok(message) = timeout(Duration::from_micros(300), link.receive()).await {
            assert_eq!(message, Some(probed(expected)));
            expected += 1;
        }
    }
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn a_slow_reader_does_not_make_the_node_silent_and_gets_the_newest() {
    let mut installation = Installation::new().await;
    let (end, _connection, mut link) = connected(&mut installation).await;
    let heard = link.heard();
    for number in 0..=2000 {
        end.to_control.send(report(number)).await.unwrap();
        end.to_control.send(probed(number)).await.unwrap();
    }
    let silent = timeout(Duration::from_secs(1), heard.silence(SUSPECT_AFTER)).await;
    assert!(silent.is_err());
    assert_eq!(soon(link.receive()).await, Some(report(2000)));
    let mut others = 0;
    while let Ok(message) = timeout(Duration::from_millis(200), link.receive()).await {
        assert!(message.is_some());
        others += 1;
    }
    assert!(others <= 256, "{others} waited");
}

#[tokio::test]
async fn a_slow_agent_gets_the_newest_wish() {
    let mut installation = Installation::new().await;
    let (mut end, connection, mut link) = connected(&mut installation).await;
    for count in 0..500 {
        link.send(wish(count)).await.unwrap();
    }
    sleep(Duration::from_millis(500)).await;
    assert!(is_connected(&connection.state().borrow()));
    link.send(wish(7)).await.unwrap();
    let mut wishes = 0;
    while soon(end.from_control.recv()).await != Some(wish(7)) {
        wishes += 1;
    }
    assert!(wishes <= 70, "{wishes} old wishes came first");
}

#[tokio::test]
async fn who_stops_reading_and_speaking_is_silent_and_closed_at_last() {
    let mut installation = Installation::new().await;
    installation.joined(1).await;
    let pem = installation.identity_pem(1);
    let mut raw = Raw::connect(&installation, Some(&pem)).await;
    raw.send(&Opening::Hello { version: VERSION, node: node_id(1) }).await;
    let mut link = installation.next_link().await;
    assert_eq!(raw.reply().await, Some(Reply::Welcome {}));
    let start = Instant::now();
    soon(link.silence(SUSPECT_AFTER)).await;
    let took = start.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_millis(800)).contains(&took), "{took:?}");
    assert!(link.silent_for() >= SUSPECT_AFTER);
    // The link is still there, for whoever comes back late.
    raw.send(&link::frame::Frame::Message(report(5))).await;
    assert_eq!(soon(link.receive()).await, Some(report(5)));
    assert!(link.silent_for() < SUSPECT_AFTER);
    let start = Instant::now();
    assert_eq!(soon(link.receive()).await, None);
    let took = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_frozen_way_is_noticed_by_both_and_left() {
    let mut installation = Installation::new().await;
    let identity = installation.joined(1).await;
    let way = Way::to(installation.address).await;
    let (end, connection) = connect(vec![way.address.to_string()], identity, installation.dir(1));
    let link = installation.next_link().await;
    end.to_control.send(report(1)).await.unwrap();
    until(&connection, is_connected).await;
    way.freeze(true);
    let start = Instant::now();
    soon(link.silence(SUSPECT_AFTER)).await;
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    sleep(Duration::from_millis(100)).await;
    way.freeze(false);
    // The frozen connection stays so; the node leaves it.
    let mut second = installation.next_link().await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(soon(second.receive()).await, Some(report(1)));
}

#[tokio::test]
async fn a_restarted_control_plane_hears_the_newest_report_at_once() {
    let mut installation = Installation::new().await;
    let (mut end, connection, mut link) = connected(&mut installation).await;
    end.to_control.send(report(1)).await.unwrap();
    assert_eq!(soon(link.receive()).await, Some(report(1)));
    for round in 0..3 {
        // Killed: no farewell is waited for.
        drop(link);
        installation.listener = None;
        until(&connection, |state| !is_connected(state)).await;
        // The agent notices nothing, and is never held up.
        let newest = if round == 1 { 1000 } else { 1 };
        if round == 1 {
            for number in 0..=newest {
                soon(end.to_control.send(report(number))).await.unwrap();
            }
        }
        installation.restart().await;
        let start = Instant::now();
        link = installation.next_link().await;
        assert!(start.elapsed() < Duration::from_secs(6));
        let newest = if round == 0 { 1 } else { 1000.max(newest) };
        assert_eq!(soon(link.receive()).await, Some(report(newest)), "round {round}");
        link.send(wish(round)).await.unwrap();
        assert_eq!(soon(end.from_control.recv()).await, Some(wish(round)));
    }
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let mut installation = Installation::new().await;
    let identity = installation.joined(1).await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let addresses = vec![nobody, "no.such.host.invalid:1".to_owned(), installation.address.to_string()];
    let (_end, connection) = connect(addresses, identity, installation.dir(1));
    let _link = installation.next_link().await;
    let expected = installation.address.to_string();
    until(&connection, |state| matches!(state, ConnectionState::Connected { address, .. } if *address == expected))
        .await;
}

#[tokio::test]
async fn a_retired_node_is_told_and_tries_no_more() {
    let mut installation = Installation::new().await;
    let identity = installation.joined(1).await;
    let (mut end, mut connection) = connect(vec![installation.address.to_string()], identity, installation.dir(1));
    // Another reason is no reason to stop.
    installation.next_link_request().await.refuse(Refusal::Busy).await;
    installation.next_link_request().await.refuse(Refusal::Retired).await;
    assert_eq!(soon(connection.ended()).await, Some(Refusal::Retired));
    assert_eq!(soon(end.from_control.recv()).await, None);
    assert!(installation.is_quiet().await);
}

#[tokio::test]
async fn a_certificate_past_half_of_its_life_is_renewed_and_kept() {
    // It begins an hour ago, so a life of less than an hour from now on is past half at once.
    let mut installation = Installation::with(|authority| authority.with_node_life(Duration::from_secs(1800))).await;
    let first = installation.joined(1).await;
    assert!(first.validity().is_past_half(SystemTime::now()));
    installation.restart().await;
    let (end, connection) = connect(vec![installation.address.to_string()], first.clone(), installation.dir(1));
    let mut link = installation.next_link().await;
    let start = Instant::now();
    let second = loop {
        let identity = Identity::load(&installation.dir(1)).unwrap().unwrap();
        if identity.validity() != first.validity() {
            break identity;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it is not renewed");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(second.node(), first.node());
    assert!(!second.validity().is_past_half(SystemTime::now()));
    // The link goes on meanwhile.
    end.to_control.send(report(1)).await.unwrap();
    assert_eq!(soon(link.receive()).await, Some(report(1)));
    connection.close(Duration::from_secs(5)).await;
    let (_end, _connection) = connect(vec![installation.address.to_string()], second, installation.dir(1));
    assert_eq!(installation.next_link().await.node(), node_id(1));
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_not_accepted() {
    let mut installation = Installation::with(|authority| authority.with_node_life(Duration::from_secs(1))).await;
    let identity = installation.joined(1).await;
    sleep(Duration::from_millis(2500)).await;
    let (_end, connection) = connect(vec![installation.address.to_string()], identity, installation.dir(1));
    until(&connection, |state| {
        matches!(state, ConnectionState::Connecting { failure: Some(failure) } if failure.contains("join anew"))
    })
    .await;
    assert!(installation.is_quiet().await);
}
