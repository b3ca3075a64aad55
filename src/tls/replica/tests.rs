//! One replica, shown what it could see.
use super::*;
use crate::tls::configuration::{entries, sample};
use rstest::rstest;
use std::time::Duration;

const NAME: &str = "opportune.opportune-system.svc";
const WEBHOOKS: [&str; 2] = ["wants.opportune.libre.sh", "requires.opportune.libre.sh"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A replica, and the clocks that it is shown.
struct World {
    replica: Replica,
    lifetimes: Lifetimes,
    wall: SystemTime,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let lifetimes = Lifetimes::new(seconds(300), seconds(100)).unwrap();
        let replica = Replica::new(vec![NAME.to_owned()], lifetimes);
        Self { replica, lifetimes, wall: UNIX_EPOCH + seconds(1_800_000_000), now: Instant::now() }
    }

    fn authorities(&self) -> Authorities {
        Authorities::new(self.wall, &self.lifetimes).unwrap()
    }

    fn wait(&mut self, time: Duration) {
        self.wall += time;
        self.now += time;
    }

    fn see(&mut self, secret: &Authorities, bundle: &str) {
        self.replica.see_authorities(Some(secret.clone()));
        self.see_bundle(bundle);
    }

    fn see_bundle(&mut self, bundle: &str) {
        let found = entries(&sample("opportune", &WEBHOOKS, bundle));
        self.replica.see_entries(Some(found), self.now);
    }

    /// Signs where that is due; with what.
    fn renew(&mut self) -> Option<CertificateDer<'static>> {
        let authority = self.replica.due(self.wall, self.now)?;
        self.replica.sign(&authority, self.wall).unwrap();
        Some(authority.certificate().clone())
    }

    fn check(&self) -> Result<(), Problem> {
        self.replica.check(self.wall, self.now)
    }

    /// One that serves already.
    fn serving() -> (Self, Authorities) {
        let mut world = Self::new();
        let secret = world.authorities();
        world.see(&secret, &secret.bundle());
        world.wait(seconds(1));
        world.renew().unwrap();
        assert_eq!(world.check(), Ok(()));
        (world, secret)
    }
}

fn newest(authorities: &Authorities) -> Option<CertificateDer<'static>> {
    Some(authorities.newest().certificate().clone())
}

#[test]
fn nothing_is_served_before_the_bundle_is_old_enough() {
    let mut world = World::new();
    let secret = world.authorities();
    assert_eq!(world.check(), Err(Problem::NoConfiguration));
    world.see(&secret, "");
    assert_eq!(
        (world.renew(), world.check()),
        (None, Err(Problem::NoBundle { webhook: WEBHOOKS[0].into() }))
    );
    world.see(&secret, &secret.bundle());
    assert_eq!((world.renew(), world.check()), (None, Err(Problem::TooNew)));
    assert_eq!(world.replica.settles(world.now), Some(world.now + seconds(1)));
    world.wait(seconds(1));
    assert_eq!((world.renew(), world.check()), (newest(&secret), Ok(())));
    assert_eq!(world.renew(), None);
}

#[test]
fn a_new_authority_signs_once_it_is_trusted_and_the_old_one_no_more_from_then_on() {
    let (mut world, old) = World::serving();
    world.wait(seconds(70));
    let both = old.rotate(world.wall, &world.lifetimes).unwrap();
    world.see(&both, &old.bundle());
    assert_eq!(world.renew(), newest(&old), "due, and nobody trusts the new one");
    world.wait(seconds(70));
    world.see(&both, &both.bundle());
    assert_eq!((world.renew(), world.check()), (None, Ok(())), "due, but the new one is trusted in a second");
    world.wait(seconds(1));
    assert_eq!((world.renew(), world.check()), (newest(&both), Ok(())));
}

#[test]
fn one_webhook_that_does_not_trust_the_new_authority_is_enough_to_keep_the_old_one() {
    let (mut world, old) = World::serving();
    let both = old.rotate(world.wall, &world.lifetimes).unwrap();
    let mut found = entries(&sample("opportune", &WEBHOOKS, &both.bundle()));
    found[1].trusted.remove(0);
    world.replica.see_authorities(Some(both));
    world.replica.see_entries(Some(found.clone()), world.now);
    world.wait(seconds(70));
    assert_eq!((world.renew(), world.check()), (newest(&old), Ok(())));
    found[1].trusted.clear();
    world.replica.see_entries(Some(found), world.now);
    assert_eq!(world.check(), Err(Problem::NoBundle { webhook: WEBHOOKS[1].into() }));
}

#[test]
fn an_old_bundle_that_somebody_put_back_brings_the_old_authority_back() {
    let (mut world, old) = World::serving();
    let both = old.rotate(world.wall, &world.lifetimes).unwrap();
    world.see(&both, &both.bundle());
    world.wait(seconds(1));
    assert_eq!(world.renew(), newest(&both));
    world.see_bundle(&old.bundle());
    assert!(matches!(world.check(), Err(Problem::Untrusted { .. })));
    assert_eq!((world.renew(), world.check()), (newest(&old), Ok(())), "it was trusted all along");
}

#[test]
fn a_wiped_bundle_is_told_and_recovers_by_itself() {
    let (mut world, secret) = World::serving();
    world.see_bundle("");
    assert_eq!(world.check(), Err(Problem::NoBundle { webhook: WEBHOOKS[0].into() }));
    world.see_bundle(&secret.bundle());
    assert_eq!(world.check(), Err(Problem::TooNew));
    world.wait(seconds(1));
    assert_eq!((world.renew(), world.check()), (None, Ok(())));
}

#[test]
fn a_foreign_bundle_is_told() {
    let (mut world, _) = World::serving();
    world.see_bundle(&world.authorities().bundle());
    assert_eq!(world.check(), Err(Problem::Untrusted { webhook: WEBHOOKS[0].into() }));
}

#[test]
fn without_a_secret_the_certificate_goes_on_until_it_expires() {
    let (mut world, secret) = World::serving();
    world.replica.see_authorities(None);
    world.wait(seconds(90));
    assert_eq!((world.renew(), world.check()), (None, Ok(())));
    world.wait(seconds(20));
    assert_eq!(world.renew(), None);
    world.replica.see_authorities(Some(secret.clone()));
    assert_eq!(world.renew(), newest(&secret));
}

#[test]
fn a_name_that_the_api_server_does_not_call_is_told() {
    let (mut world, secret) = World::serving();
    let mut found = entries(&sample("opportune", &WEBHOOKS, &secret.bundle()));
    found[1].host = "hook.example".to_owned();
    world.replica.see_entries(Some(found), world.now);
    let webhook = WEBHOOKS[1].to_owned();
    let expected = Problem::WrongName { webhook, host: "hook.example".into(), names: NAME.into() };
    assert_eq!(world.check(), Err(expected));
}

#[rstest]
#[case::early(60, false)]
#[case::two_thirds(67, true)]
#[case::clock_ahead(200, true)]
#[case::clock_a_little_behind(-5, false)]
#[case::clock_behind(-25, true)]
#[case::clock_before_the_authority(-40, false)]
#[case::clock_after_the_authority(1_000_000, false)]
fn a_certificate_is_renewed_by_the_wall_clock(#[case] jump: i64, #[case] is_renewed: bool) {
    let (mut world, _) = World::serving();
    world.wall = match u64::try_from(jump) {
        Ok(ahead) => world.wall + seconds(ahead),
        Err(_) => world.wall - seconds(jump.unsigned_abs()),
    };
    assert_eq!(world.renew().is_some(), is_renewed);
    assert_eq!(world.check(), Ok(()), "what is wrong with the clock is not wrong with the bundle");
}

#[test]
fn towards_the_end_of_its_authority_a_certificate_is_not_signed_again_and_again() {
    let (mut world, _) = World::serving();
    world.wait(seconds(250));
    assert!(world.renew().is_some());
    world.wait(seconds(40));
    assert_eq!(world.renew(), None, "a new one would end as early");
    assert!(world.replica.overdue(world.wall).unwrap().starts_with("the certificate expires on Jan 15 "));
    world.wait(seconds(20));
    assert!(world.replica.overdue(world.wall).unwrap().starts_with("the certificate expired on Jan 15 "));
}

#[test]
fn a_configuration_without_webhooks_of_ours_is_told() {
    let (mut world, _) = World::serving();
    world.replica.see_entries(Some(Vec::new()), world.now);
    assert_eq!(world.check(), Err(Problem::NoWebhook));
    assert!(!Problem::NoWebhook.is_passing());
}
