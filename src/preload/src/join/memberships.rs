//! The groups that a socket has joined, as the kernel would keep them.
//!
//! ```text
//!   none ── join ──► all but {}  ── block, unblock ──► all but {sources}
//!   none ── add source ──► only {source} ── add, drop ──► only {sources}
//!   either ── leave, or the last source dropped ──► none
//! ```
//! Promises: answers with the kernel's error numbers (`ip_mc_join_group`,
//! `ip_mc_source`, `ip_mc_msfilter` in net/ipv4/igmp.c; net/ipv6/mcast.c). Is not
//! what is asked for them (`receiver`). Where the routes choose the interface nobody
//! knows here which that is: leaving such a membership by an interface's name finds
//! it all the same.

use std::net::IpAddr;

use libc::c_int;

use super::request::{most_sources, Change, Interface, Mode, Request};
use crate::name::Family;

/// Memberships of one socket (`igmp_max_memberships`).
const MOST: usize = 20;

/// One group on one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Membership {
    /// The group.
    pub(super) group: IpAddr,
    /// An index, or wherever the routes say.
    pub(super) interface: Interface,
    /// What the sources are.
    pub(super) mode: Mode,
    /// Blocked ones, or the only ones.
    pub(super) sources: Vec<IpAddr>,
}

/// All memberships of one socket.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Memberships(Vec<Membership>);

impl Memberships {
    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Membership> {
        self.0.iter()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out those that are not to stay.
    pub(super) fn split_off(&mut self, stays: impl Fn(&Membership) -> bool) -> Vec<Membership> {
        let (kept, taken) = std::mem::take(&mut self.0).into_iter().partition(stays);
        self.0 = kept;
        taken
    }

    /// The one that a leave, or a change of sources, means.
    pub(super) fn find(&self, group: IpAddr, interface: Interface) -> Option<&Membership> {
        self.place(group, interface).map(|at| &self.0[at])
    }

    fn place(&self, group: IpAddr, interface: Interface) -> Option<usize> {
        let fits = |wanted: &dyn Fn(Interface) -> bool| {
            let mut all = self.0.iter();
            all.position(|m| m.group == group && wanted(m.interface))
        };
        fits(&|known| known == interface)
            .or_else(|| fits(&|known| known == Interface::Default))
            .or_else(|| fits(&|_| interface == Interface::Default))
    }

    /// The one that a join would be again. For IPv6 a join without an interface is
    /// one wherever the group is joined (`__ipv6_sock_mc_join`).
    fn same(&self, request: &Request) -> Option<usize> {
        let anywhere = request.family == Family::V6 && request.interface == Interface::Default;
        let mut all = self.0.iter();
        all.position(|m| m.group == request.group && (anywhere || m.interface == request.interface))
    }

    /// Changes them as the kernel would; its error number, and nothing changed.
    pub(super) fn apply(&mut self, request: &Request) -> Result<(), c_int> {
        match &request.change {
            Change::Join => match self.same(request) {
                Some(_) => Err(libc::EADDRINUSE),
                None => self.enter(request, Mode::Exclude, Vec::new()),
            },
            Change::Leave => self.leave(request),
            Change::Add(source) => match self.same(request) {
                Some(_) => self.source(request, Mode::Include, true, *source),
                None => self.enter(request, Mode::Include, vec![*source]),
            },
            Change::Drop(source) => self.source(request, Mode::Include, false, *source),
            Change::Block(source) => self.source(request, Mode::Exclude, true, *source),
            Change::Unblock(source) => self.source(request, Mode::Exclude, false, *source),
            Change::Filter(Mode::Include, sources) if sources.is_empty() => self.leave(request),
            Change::Filter(mode, sources) => {
                let at = self.place(request.group, request.interface);
                let membership = &mut self.0[at.ok_or(libc::EINVAL)?];
                membership.mode = *mode;
                membership.sources.clone_from(sources);
                Ok(())
            }
        }
    }

    fn enter(&mut self, request: &Request, mode: Mode, sources: Vec<IpAddr>) -> Result<(), c_int> {
        if self.0.len() >= MOST {
            return Err(libc::ENOBUFS);
        }
        self.0.push(Membership {
            group: request.group,
            interface: request.interface,
            mode,
            sources,
        });
        Ok(())
    }

    fn leave(&mut self, request: &Request) -> Result<(), c_int> {
        let at = self.place(request.group, request.interface);
        self.0.remove(at.ok_or(libc::EADDRNOTAVAIL)?);
        Ok(())
    }

    fn source(
        &mut self,
        request: &Request,
        mode: Mode,
        add: bool,
        source: IpAddr,
    ) -> Result<(), c_int> {
        let at = self.place(request.group, request.interface);
        let at = at.ok_or(libc::EINVAL)?;
        let membership = &mut self.0[at];
        // An empty list may become one of the other kind.
        if membership.mode != mode && !membership.sources.is_empty() {
            return Err(libc::EINVAL);
        }
        let known = membership.sources.iter().position(|s| *s == source);
        match (add, known) {
            (true, Some(_)) | (false, None) => Err(libc::EADDRNOTAVAIL),
            (true, None) if membership.sources.len() >= most_sources(request.family) => {
                Err(libc::ENOBUFS)
            }
            (true, None) => {
                membership.mode = mode;
                membership.sources.push(source);
                Ok(())
            }
            // Hearing nobody is to have left.
            (false, Some(_)) if mode == Mode::Include && membership.sources.len() == 1 => {
                self.0.remove(at);
                Ok(())
            }
            (false, Some(n)) => {
                membership.sources.remove(n);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn request(group: &str, interface: Interface, change: Change) -> Request {
        let group = ip(group);
        let family = match group {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        Request {
            group,
            interface,
            change,
            family,
        }
    }

    fn apply(memberships: &mut Memberships, change: Change) -> Result<(), c_int> {
        memberships.apply(&request("239.1.1.1", Interface::Default, change))
    }

    fn sources(memberships: &Memberships) -> (Mode, Vec<IpAddr>) {
        let found = memberships.find(ip("239.1.1.1"), Interface::Default);
        let found = found.unwrap();
        (found.mode, found.sources.clone())
    }

    #[test]
    fn joining_twice_and_leaving_what_was_not_joined_fail_as_in_the_kernel() {
        let mut m = Memberships::default();
        assert_eq!(apply(&mut m, Change::Leave), Err(libc::EADDRNOTAVAIL));
        assert_eq!(apply(&mut m, Change::Join), Ok(()));
        assert_eq!(apply(&mut m, Change::Join), Err(libc::EADDRINUSE));
        let other = request("239.1.1.1", Interface::Index(3), Change::Join);
        assert_eq!(m.apply(&other), Ok(()));
        assert_eq!(apply(&mut m, Change::Leave), Ok(()));
        assert_eq!(apply(&mut m, Change::Leave), Ok(()));
        assert!(m.is_empty());
    }

    #[test]
    fn an_ipv6_join_without_an_interface_meets_any() {
        let mut m = Memberships::default();
        let named = request("ff3e::1", Interface::Index(3), Change::Join);
        let unnamed = request("ff3e::1", Interface::Default, Change::Join);
        assert_eq!(m.apply(&named), Ok(()));
        assert_eq!(m.apply(&unnamed), Err(libc::EADDRINUSE));
    }

    #[test]
    fn the_21st_group_and_the_11th_source_are_too_many() {
        let mut m = Memberships::default();
        for n in 0..20 {
            let group = format!("239.1.1.{n}");
            let join = request(&group, Interface::Default, Change::Join);
            assert_eq!(m.apply(&join), Ok(()), "{group}");
        }
        let more = request("239.1.1.20", Interface::Default, Change::Join);
        assert_eq!(m.apply(&more), Err(libc::ENOBUFS));
        let mut m = Memberships::default();
        for n in 0..10 {
            let source = ip(&format!("10.0.0.{n}"));
            assert_eq!(apply(&mut m, Change::Add(source)), Ok(()));
        }
        let more = Change::Add(ip("10.0.0.10"));
        assert_eq!(apply(&mut m, more), Err(libc::ENOBUFS));
    }

    #[test]
    fn sources_are_added_and_dropped_and_the_last_one_leaves() {
        let (one, two) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let mut m = Memberships::default();
        assert_eq!(apply(&mut m, Change::Drop(one)), Err(libc::EINVAL));
        assert_eq!(apply(&mut m, Change::Add(one)), Ok(()));
        assert_eq!(apply(&mut m, Change::Add(one)), Err(libc::EADDRNOTAVAIL));
        assert_eq!(apply(&mut m, Change::Join), Err(libc::EADDRINUSE));
        assert_eq!(apply(&mut m, Change::Block(two)), Err(libc::EINVAL));
        assert_eq!(apply(&mut m, Change::Drop(two)), Err(libc::EADDRNOTAVAIL));
        assert_eq!(apply(&mut m, Change::Add(two)), Ok(()));
        assert_eq!(apply(&mut m, Change::Drop(one)), Ok(()));
        assert_eq!(sources(&m), (Mode::Include, vec![two]));
        assert_eq!(apply(&mut m, Change::Drop(two)), Ok(()));
        assert!(m.is_empty());
    }

    #[test]
    fn plain_leave_leaves_source_joins() {
        let mut m = Memberships::default();
        assert_eq!(apply(&mut m, Change::Add(ip("10.0.0.1"))), Ok(()));
        assert_eq!(apply(&mut m, Change::Leave), Ok(()));
        assert!(m.is_empty());
    }

    #[test]
    fn blocking_needs_a_join_and_filters_replace_the_list() {
        let (one, two) = (ip("10.0.0.1"), ip("10.0.0.2"));
        let mut m = Memberships::default();
        assert_eq!(apply(&mut m, Change::Block(one)), Err(libc::EINVAL));
        assert_eq!(apply(&mut m, Change::Join), Ok(()));
        assert_eq!(apply(&mut m, Change::Block(one)), Ok(()));
        assert_eq!(apply(&mut m, Change::Block(one)), Err(libc::EADDRNOTAVAIL));
        assert_eq!(
            apply(&mut m, Change::Unblock(two)),
            Err(libc::EADDRNOTAVAIL)
        );
        assert_eq!(sources(&m), (Mode::Exclude, vec![one]));
        assert_eq!(apply(&mut m, Change::Unblock(one)), Ok(()));
        // With nobody blocked a source may be added: then only that one is heard.
        assert_eq!(apply(&mut m, Change::Add(two)), Ok(()));
        assert_eq!(sources(&m), (Mode::Include, vec![two]));
        let all_but = Change::Filter(Mode::Exclude, vec![one, two]);
        assert_eq!(apply(&mut m, all_but), Ok(()));
        assert_eq!(sources(&m), (Mode::Exclude, vec![one, two]));
        let nobody = Change::Filter(Mode::Include, vec![]);
        assert_eq!(apply(&mut m, nobody.clone()), Ok(()));
        assert_eq!(apply(&mut m, nobody), Err(libc::EADDRNOTAVAIL));
    }
}
