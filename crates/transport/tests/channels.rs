//! Data channels: what passes, what is refused.

mod support;

use std::time::Duration;

use str0m::channel::ChannelConfig;
use support::{World, delay, limits, peer_channel, player_send};
use transport::{Channel, CloseReason, PeerEvent, SendError};

fn connected() -> World {
    let mut world = World::new(limits(300, 1000, 1000), &delay(5), 1);
    world.run(Duration::from_secs(2));
    assert!(world.peer.is_connected());
    world
}

fn received(world: &World) -> Vec<(Channel, Vec<u8>)> {
    let data = world.events.iter().filter_map(|(_, event)| match event {
        PeerEvent::Data { channel, bytes } => Some((*channel, bytes.clone())),
        _ => None,
    });
    data.collect()
}

#[test]
fn both_channels_open_and_carry_both_ways() {
    let mut world = connected();
    assert_eq!(world.saw(&PeerEvent::ChannelOpen(Channel::Control)), 1);
    assert_eq!(world.saw(&PeerEvent::ChannelOpen(Channel::Motion)), 1);
    for channel in [0, 1] {
        player_send(&mut world, channel, &[channel as u8; 100]);
        let now = world.now;
        world.peer.send(peer_channel(channel), &[channel as u8 + 10; 50], now).unwrap();
    }
    world.run(Duration::from_secs(3));
    let mut got = received(&world);
    got.sort_by_key(|(_, bytes)| bytes[0]);
    assert_eq!(got, [(Channel::Control, vec![0; 100]), (Channel::Motion, vec![1; 100])]);
    let mut back: Vec<Vec<u8>> = world.messages.iter().map(|(_, bytes)| bytes.clone()).collect();
    back.sort();
    assert_eq!(back, [vec![10; 50], vec![11; 50]]);
}

#[test]
fn messages_of_the_largest_size_pass_and_longer_ones_do_not() {
    let mut world = connected();
    let now = world.now;
    let largest = vec![3; wire::MAX_MESSAGE_BYTES];
    world.peer.send(Channel::Control, &largest, now).unwrap();
    let longer = vec![3; wire::MAX_MESSAGE_BYTES + 1];
    assert_eq!(world.peer.send(Channel::Control, &longer, now), Err(SendError::TooLong));
    world.run(Duration::from_secs(6));
    assert_eq!(world.messages.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [largest.len()]);
}

#[test]
fn channels_are_full_before_they_are_a_burden() {
    let mut world = connected();
    let now = world.now;
    let sent = (0..100).take_while(|_| world.peer.send(Channel::Control, &[0; 100_000], now).is_ok()).count();
    assert!((2..10).contains(&sent), "{sent} messages of 100 kB were taken");
    let motions = (0..1000).take_while(|_| world.peer.send(Channel::Motion, &[0; 1000], now).is_ok()).count();
    assert!(motions < 30, "{motions} kB wait on the motion channel");
}

#[test]
fn other_labels_and_second_channels_are_closed() {
    let mut world = connected();
    for label in ["chat", wire::CONTROL_LABEL] {
        let mut api = world.player.sdp_api();
        let id = api.add_channel_with_config(ChannelConfig { label: label.into(), ..ChannelConfig::default() });
        assert!(api.apply().is_none(), "no negotiation for a further channel");
        world.run(world.elapsed() + Duration::from_secs(2));
        assert!(world.player.channel(id).is_none(), "{label} is closed");
    }
    player_send(&mut world, 0, b"the first one stays");
    world.run(world.elapsed() + Duration::from_secs(1));
    assert_eq!(received(&world).len(), 1);
}

#[test]
fn goodbyes_are_heard_on_both_sides() {
    let mut world = connected();
    world.player.close().unwrap();
    world.run(Duration::from_secs(4));
    assert_eq!(world.saw(&PeerEvent::Closed(CloseReason::Remote)), 1);

    let mut world = connected();
    let now = world.now;
    world.peer.close(now);
    assert_eq!(world.peer.send(Channel::Control, b"x", now), Err(SendError::Closed));
    world.run(Duration::from_secs(4));
    assert_eq!(world.saw(&PeerEvent::Closed(CloseReason::Local)), 1);
    assert!(!world.player.is_alive(), "the player was told");
}
