//! What a node says to its entries, and to those who get none.
//! Is not when it says so (`timing`).

use super::*;

impl Audience {
    /// A status to one entry, answering the request with this sequence.
    pub(super) fn answer(&mut self, voice: &mut Voice<'_>, slot: u32, answered: Sequence) {
        let granted = voice.state.verdict == Verdict::Granted;
        if let Some(entry) = &mut self.slots[index(slot)] {
            entry.heard |= granted;
        }
        let Some(entry) = &self.slots[index(slot)] else {
            return;
        };
        if let Phase::Stopping { at, told: true, .. } = entry.phase {
            let home = home(entry);
            self.say_left(voice, &home, answered, Some(at));
            return;
        }
        let handover = match entry.phase {
            Phase::Starting { at, .. } => Some(Handover::StartsAt(at)),
            Phase::Stream => entry.started_at.map(Handover::StartsAt),
            _ => None,
        };
        let (datagrams, bytes) = self.sent_to(entry);
        let said = self.bare(voice, &entry.channel, entry.address, entry.nonce);
        // An end of before it came is none to it: it waits for the next stream.
        let late = said.verdict == Verdict::Ended && !entry.heard;
        let status = Status {
            verdict: if late { Verdict::Pending } else { said.verdict },
            token: said.token.filter(|_| !late),
            standby: entry.phase == Phase::Standby,
            sign_of_life_wanted: entry.life_by.is_some(),
            handover,
            hold_ms: as_ms(entry.hold),
            heartbeat_ms: as_ms(entry.heartbeat),
            datagrams,
            bytes,
            own_address: entry.own_address,
            ..said
        };
        let route = Route::Node(entry.asked);
        let (to, nonce, channel) = (entry.address, entry.nonce, entry.channel);
        speak(voice, route, to, channel, nonce, answered, status);
    }

    /// Stream datagrams and bytes sent to an entry.
    pub(super) fn sent_to(&self, entry: &Entry) -> (u64, u64) {
        match entry.place {
            Place::Steady(_) => (
                entry.own_datagrams + self.datagrams - entry.base_datagrams,
                entry.own_bytes + self.bytes - entry.base_bytes,
            ),
            _ => (entry.own_datagrams, entry.own_bytes),
        }
    }

    /// Stream datagrams sent to the entry at an address.
    pub(crate) fn sent_to_address(&self, at: SocketAddr) -> Option<u64> {
        let slot = *self.by_address.get(&at)?;
        let entry = self.slots[index(slot)].as_ref()?;
        Some(self.sent_to(entry).0)
    }

    /// What any status of this channel says.
    pub(super) fn bare(
        &self,
        voice: &Voice<'_>,
        channel: &Channel,
        to: SocketAddr,
        nonce: Nonce,
    ) -> Status {
        let pending = voice.state.verdict == Verdict::Pending;
        Status {
            verdict: voice.state.verdict,
            standby: false,
            sign_of_life_wanted: false,
            ask: voice.state.ask,
            handover: None,
            app_port: voice.state.app_port,
            hold_ms: 0,
            heartbeat_ms: 0,
            // Known from the stream before, perhaps; the next one has its own.
            token: voice.state.token.filter(|_| !pending),
            cookie: voice.jar.bake(to, nonce, channel),
            datagrams: 0,
            bytes: 0,
            highest: self.highest,
            reason: voice.state.reason,
            own_address: None,
            path: voice.state.path,
        }
    }

    pub(super) fn say_left(
        &self,
        voice: &mut Voice<'_>,
        home: &Home,
        answered: Sequence,
        stopped: Option<Sequence>,
    ) {
        let (to, channel, nonce) = (home.address, home.channel, home.nonce);
        let status = Status {
            verdict: Verdict::Left,
            handover: stopped.map(Handover::StoppedAt),
            path: Path::EMPTY,
            ..self.bare(voice, &channel, to, nonce)
        };
        let route = Route::Node(home.asked);
        speak(voice, route, to, channel, nonce, answered, status);
    }

    /// *Left* to somebody validated of whom nothing is known (any more).
    pub(crate) fn say_unknown(
        &self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        asked: IpAddr,
        header: &Header,
    ) {
        let home = Home::of(header, from, asked);
        self.say_left(voice, &home, header.sequence, None);
    }

    /// A passing refusal to somebody validated who gets no entry.
    pub(crate) fn refuse(
        &self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        asked: IpAddr,
        header: &Header,
        reason: Reason,
    ) {
        self.tell(
            voice,
            from,
            asked,
            header,
            (Verdict::RefusedPassing, reason),
        );
    }

    /// A verdict to somebody validated who has no entry.
    pub(crate) fn tell(
        &self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        asked: IpAddr,
        header: &Header,
        (verdict, reason): (Verdict, Reason),
    ) {
        let status = Status {
            verdict,
            reason,
            token: None,
            ..self.bare(voice, &header.channel, from, header.nonce)
        };
        let route = Route::Node(asked);
        speak(
            voice,
            route,
            from,
            header.channel,
            header.nonce,
            header.sequence,
            status,
        );
    }
}
