//! A long life of our certificates, with everybody late: at every moment, what each replica serves is trusted by every
//! bundle that an API server may still go by.
use super::{
    authorities::Authorities,
    configuration::{Entry, entries, sample},
    lifetimes::Lifetimes,
    replica::Replica,
};
use rustls::pki_types::CertificateDer;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const STEP: Duration = Duration::from_millis(250);
const STEPS: u32 = 4 * 60 * 4;
const WEBHOOKS: [&str; 1] = ["wants.opportune.libre.sh"];

/// A xorshift: the same seed, the same life.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }
}

/// One that was written.
struct Bundle {
    at: Instant,
    text: String,
    entries: Vec<Entry>,
}

/// What the cluster holds, and what it held a moment ago.
struct Cluster {
    secret: Authorities,
    bundles: Vec<Bundle>,
}

impl Cluster {
    fn write_secret(&mut self, authorities: &Authorities) {
        self.secret = Authorities::decode(&authorities.encode()).unwrap();
    }

    fn bundle(&self) -> &Bundle {
        self.bundles.last().unwrap()
    }

    fn write_bundle(&mut self, at: Instant) {
        let text = self.secret.bundle();
        let entries = entries(&sample("opportune", &WEBHOOKS, &text));
        self.bundles.push(Bundle { at, text, entries });
    }

    /// What an API server may go by `now`, when it is late by `settle` at most.
    fn in_force(&self, now: Instant, settle: Duration) -> impl Iterator<Item = &Bundle> {
        let replaced = self.bundles.iter().skip(1).map(|next| Some(next.at)).chain([None]);
        let held = self.bundles.iter().zip(replaced);
        held.filter(move |(_, replaced)| replaced.is_none_or(|at| now < at + settle)).map(|(held, _)| held)
    }
}

/// The keeper's steps, any of which may be its last before somebody else goes on.
fn keep(cluster: &mut Cluster, lifetimes: &Lifetimes, wall: SystemTime, now: Instant, chance: &mut Chance) {
    if cluster.secret.needs_rotation(wall) {
        let rotated = cluster.secret.rotate(wall, lifetimes).unwrap();
        cluster.write_secret(&rotated);
        if chance.one_in(3) {
            return;
        }
    }
    if cluster.bundle().text != cluster.secret.bundle() {
        cluster.write_bundle(now);
        if chance.one_in(3) {
            return;
        }
    }
    if let Some(noted) = cluster.secret.trusted(wall) {
        cluster.write_secret(&noted);
    } else if let Some(last) = cluster.secret.retire(wall, lifetimes) {
        cluster.write_secret(&last);
    }
}

struct Served {
    replica: Replica,
    leaf: Option<(CertificateDer<'static>, SystemTime)>,
    /// Stands still until then: paused, or cut off from the cluster, while it may serve on.
    away: u64,
}

impl Served {
    fn new(lifetimes: Lifetimes) -> Self {
        let names = vec!["opportune.opportune-system.svc".to_owned()];
        Self { replica: Replica::new(names, lifetimes), leaf: None, away: 0 }
    }

    fn look(&mut self, cluster: &Cluster, wall: SystemTime, now: Instant) {
        self.replica.see_entries(Some(cluster.bundle().entries.clone()), now);
        self.replica.see_authorities(Some(cluster.secret.clone()));
        if let Some(authority) = self.replica.due(wall, now) {
            let loaded = self.replica.sign(&authority, wall).unwrap();
            self.leaf = Some((authority.certificate().clone(), loaded.validity.until));
            assert_eq!(self.replica.check(wall, now), Ok(()));
        }
    }
}

/// How often a replica served something.
fn live(seed: u64) -> u32 {
    let mut chance = Chance(seed);
    let lifetimes = Lifetimes::new(Duration::from_secs(30), Duration::from_secs(10)).unwrap();
    let (start, started) = (UNIX_EPOCH + Duration::from_secs(1_800_000_000), Instant::now());
    let secret = Authorities::new(start, &lifetimes).unwrap();
    let mut cluster = Cluster { secret, bundles: Vec::new() };
    cluster.write_bundle(started);
    let mut replicas = [(); 3].map(|()| Served::new(lifetimes));
    let mut keeper_away = 0;
    let mut served = 0;
    for step in 0..STEPS {
        let (wall, now) = (start + STEP * step, started + STEP * step);
        if keeper_away == 0 {
            keep(&mut cluster, &lifetimes, wall, now, &mut chance);
            keeper_away = chance.below(12);
        } else {
            keeper_away -= 1;
        }
        for (index, replica) in replicas.iter_mut().enumerate() {
            if replica.away == 0 {
                replica.look(&cluster, wall, now);
                // Mostly a tick at most; now and then for much longer than the overlap.
                replica.away = if chance.one_in(40) { chance.below(120) } else { chance.below(4) };
            } else {
                replica.away -= 1;
            }
            if chance.one_in(400) {
                *replica = Served::new(lifetimes);
            }
            let Some((by, until)) = &replica.leaf else { continue };
            if wall >= *until {
                continue;
            }
            served += 1;
            for bundle in cluster.in_force(now, lifetimes.settle()) {
                let is_trusted = bundle.entries.iter().all(|entry| entry.trusted.contains(by));
                assert!(is_trusted, "seed {seed}, step {step}, replica {index}");
            }
        }
    }
    served
}

#[test]
fn what_is_served_is_trusted_at_every_moment_however_late_everybody_is() {
    for seed in 1..=20 {
        let served = live(seed * 0x9E37_79B9);
        // Three replicas; they fail to serve only where they were away for longer than a certificate lives.
        assert!(served > STEPS * 2, "seed {seed}: {served}");
    }
}
