//! CHANNEL on the command line, turned into what is asked for or sent.
//!
//! Promises: the same channels as the preload library derives from the map. Is not
//! the reader of the text (`flexcast_rules::ChannelText`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use flexcast_engine::{NodeSettings, RequesterSettings};
use flexcast_rules::{ChannelText, ChannelTextError, Settings};
use flexcast_runtime::native::ReceiverSettings;
use flexcast_runtime::send::SendSettings;
use flexcast_wire::Channel;

use crate::map_options::is_local;

/// What to say of CHANNEL in every command's help.
pub(crate) const HELP: &str = "\
CHANNEL is one of
  SENDER#ID       10.0.0.5#5000, [2001:db8::5]#5000: channel 5000 of that host
  self#ID         a channel of this host
  GROUP:PORT      239.1.1.4:5000, [ff3e::8000:1]:5000: what the rules (--map,
                  FLEXCAST_MAP, --config) make of the group
  ADDRESS:PORT    likewise, of a unicast address";

/// A receiver for each channel that `text` means.
pub(crate) fn to_receive(
    text: &ChannelText,
    settings: &Settings,
) -> Result<Vec<ReceiverSettings>, ChannelTextError> {
    let local = |address| is_local(address, settings);
    let channels = text.to_receive(settings.map(), &local)?;
    let rule = match text {
        ChannelText::Address(address) => settings.map().look_up(*address),
        ChannelText::Channel(_) | ChannelText::Own(_) => None,
    };
    let via = rule.and_then(|rule| rule.via().first().copied());
    let fp = settings.port();
    let asking = |channel: Channel| ReceiverSettings {
        asked: SocketAddr::new(via.unwrap_or(channel.sender), fp),
        strict: rule.is_some_and(flexcast_rules::Rule::is_strict),
        requester: RequesterSettings {
            refresh: settings.refresh(),
            hold: settings.hold(),
            heartbeat: settings.heartbeat(),
            ..RequesterSettings::default()
        },
        ..ReceiverSettings::new(channel, fp)
    };
    Ok(channels.into_iter().map(asking).collect())
}

/// The channel of this host that `text` means. Where any local address is its
/// sender, that is the unspecified one: requesters are answered from the address
/// that they ask.
pub(crate) fn to_send(
    text: &ChannelText,
    settings: &Settings,
) -> Result<Channel, ChannelTextError> {
    let local = |address| is_local(address, settings);
    let own = text.to_send(settings.map(), &local)?;
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Ok(Channel::new(own.sender.unwrap_or(any), own.id))
}

/// How this host sends.
pub(crate) fn send_settings(settings: &Settings) -> SendSettings {
    send_settings_at(settings.port())
}

/// How this host sends, by the defaults but for FP.
pub(crate) fn send_settings_at(fp: u16) -> SendSettings {
    SendSettings {
        fp,
        node: NodeSettings::sender(),
    }
}
