//! The keeper before an API server that also serves somebody else.
use super::*;
use crate::tls::{
    authorities::Data,
    configuration::{entries, sample},
    fake::{self, Fake, SECRET, configuration},
};
use k8s_openapi::ByteString;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

const OURS: &str = "wants.opportune.libre.sh";
const FOREIGN: &str = "wants.example.com";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> SystemTime {
    UNIX_EPOCH + seconds(1_800_000_000)
}

fn lifetimes() -> Lifetimes {
    Lifetimes::new(seconds(300), seconds(50)).unwrap()
}

fn keeper(fake: &Fake) -> Keeper {
    Keeper::new(fake.client(), "opportune-system".to_owned(), lifetimes())
}

/// With both configurations, as the chart makes them.
fn installed() -> Fake {
    let fake = Fake::default();
    fake.put(&configuration(CONFIGURATION), sample(CONFIGURATION, &[OURS, FOREIGN], ""));
    fake.put(&configuration(POLICIES_CONFIGURATION), sample(POLICIES_CONFIGURATION, &[], ""));
    fake
}

fn secret(fake: &Fake) -> Authorities {
    let secret: Secret = serde_json::from_value(fake.get(SECRET).unwrap()).unwrap();
    Authorities::decode(&secret.data.unwrap()).unwrap()
}

fn certificates(authorities: &Authorities) -> Vec<CertificateDer<'static>> {
    authorities.newest_first().map(|authority| authority.certificate().clone()).collect()
}

fn trusted(fake: &Fake, name: &str) -> Vec<CertificateDer<'static>> {
    entries(&fake.get(&configuration(name)).unwrap()).remove(0).trusted
}

async fn checked(keeper: &mut Keeper, now: SystemTime) {
    keeper.check_until_settled(now).await.unwrap();
}

#[tokio::test]
async fn a_new_installation_gets_its_authority_and_its_bundle_and_then_nothing_more() {
    let fake = installed();
    let before = fake.get(&configuration(CONFIGURATION)).unwrap();
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    assert_eq!(fake.writes(), ["POST opportune-ca", "PUT opportune"]);
    assert_eq!(trusted(&fake, CONFIGURATION), certificates(&secret(&fake)));
    let after = fake.get(&configuration(CONFIGURATION)).unwrap();
    assert_eq!(after["webhooks"][1], before["webhooks"][1], "a foreign webhook is left alone");
    assert_eq!(after["webhooks"][0]["new"], json!([1.5]), "and what we don't know of ours");
    for later in 0..10 {
        checked(&mut keeper, start() + seconds(later * 15)).await;
    }
    assert_eq!(fake.writes(), [""; 0]);
}

#[tokio::test]
async fn a_rotation_overlaps_and_ends() {
    let fake = installed();
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    let old = certificates(&secret(&fake));
    fake.writes();

    let now = start() + seconds(200);
    checked(&mut keeper, now).await;
    assert_eq!(fake.writes(), ["PUT opportune-ca", "PUT opportune", "PUT opportune-ca"]);
    let both = certificates(&secret(&fake));
    assert_eq!(both[1..], old);
    assert_eq!(trusted(&fake, CONFIGURATION), both);

    // Another leader goes on where this one stopped.
    let mut keeper = self::keeper(&fake);
    checked(&mut keeper, now + lifetimes().overlap() - seconds(1)).await;
    assert_eq!(fake.writes(), [""; 0]);
    checked(&mut keeper, now + lifetimes().overlap() + seconds(1)).await;
    assert_eq!(fake.writes(), ["PUT opportune-ca", "PUT opportune"]);
    assert_eq!(trusted(&fake, CONFIGURATION), both[..1]);
    assert_eq!(certificates(&secret(&fake)), both[..1]);
}

#[tokio::test]
async fn two_leaders_end_with_one_authority() {
    let fake = installed();
    let (mut one, mut other) = (keeper(&fake), keeper(&fake));
    // One of the two is about to create its Secret when the other does.
    let first = fake::secret(&Authorities::new(start(), &lifetimes()).unwrap().encode());
    fake.meanwhile(move |fake| fake.put(SECRET, first));
    checked(&mut one, start()).await;
    assert_eq!(fake.writes(), ["PUT opportune"], "what it made itself is forgotten");
    checked(&mut other, start()).await;
    checked(&mut one, start()).await;
    assert_eq!(fake.writes(), [""; 0]);
    assert_eq!(trusted(&fake, CONFIGURATION), certificates(&secret(&fake)));
}

#[tokio::test]
async fn a_rotation_by_another_leader_at_the_same_time_counts() {
    let fake = installed();
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    fake.writes();
    let now = start() + seconds(200);
    let theirs = secret(&fake).rotate(now, &lifetimes()).unwrap();
    let (encoded, bundle) = (serde_json::to_value(theirs.encode()).unwrap(), theirs.bundle());
    fake.meanwhile(move |fake| {
        let mut secret = fake.get(SECRET).unwrap();
        secret["data"] = encoded;
        fake.put(SECRET, secret);
        let mut found = fake.get(&configuration(CONFIGURATION)).unwrap();
        configuration::trust(&mut found, &bundle);
        fake.put(&configuration(CONFIGURATION), found);
    });
    checked(&mut keeper, now).await;
    assert_eq!(fake.writes(), ["PUT opportune-ca"], "only since when it is trusted");
    assert_eq!(certificates(&secret(&fake)), certificates(&theirs));
}

#[tokio::test]
async fn a_configuration_that_changes_at_the_same_time_is_read_again() {
    let fake = installed();
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    // An upgrade wipes the bundle, and wipes it again while we write it.
    let wiped = sample(CONFIGURATION, &[OURS, FOREIGN, "new.opportune.libre.sh"], "");
    fake.put(&configuration(CONFIGURATION), sample(CONFIGURATION, &[OURS], ""));
    fake.meanwhile(move |fake| fake.put(&configuration(CONFIGURATION), wiped));
    fake.writes();
    checked(&mut keeper, start()).await;
    assert_eq!(fake.writes(), ["PUT opportune"]);
    let entries = entries(&fake.get(&configuration(CONFIGURATION)).unwrap());
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.trusted == certificates(&secret(&fake))));
}

#[tokio::test]
async fn an_old_bundle_that_somebody_put_back_begins_the_overlap_anew() {
    let fake = installed();
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    let old = fake.get(&configuration(CONFIGURATION)).unwrap();
    let now = start() + seconds(200);
    checked(&mut keeper, now).await;
    fake.put(&configuration(CONFIGURATION), old);
    // Long over: but replicas have gone back to the old authority, too.
    let late = now + lifetimes().overlap() + seconds(5);
    checked(&mut keeper, late).await;
    assert_eq!(certificates(&secret(&fake)).len(), 2);
    assert_eq!(trusted(&fake, CONFIGURATION), certificates(&secret(&fake)));
    checked(&mut keeper, late + lifetimes().overlap() + seconds(1)).await;
    assert_eq!(certificates(&secret(&fake)).len(), 1);
}

#[rstest]
#[case::no_data(Data::new())]
#[case::garbage(Data::from([("ca.crt".to_owned(), ByteString(b"no".to_vec()))]))]
#[tokio::test]
async fn a_broken_secret_is_replaced(#[case] data: Data) {
    let fake = installed();
    fake.put(SECRET, fake::secret(&data));
    checked(&mut keeper(&fake), start()).await;
    assert_eq!(fake.writes(), ["PUT opportune-ca", "PUT opportune"]);
    assert_eq!(trusted(&fake, CONFIGURATION), certificates(&secret(&fake)));
    assert_eq!(fake.get(SECRET).unwrap()["metadata"]["labels"], json!({"kept": "yes"}));
}

#[tokio::test]
async fn a_deleted_secret_is_made_anew() {
    let fake = installed();
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    let lost = certificates(&secret(&fake));
    fake.delete(SECRET);
    fake.writes();
    checked(&mut keeper, start()).await;
    assert_eq!(fake.writes(), ["POST opportune-ca", "PUT opportune", "PUT opportune-ca"]);
    // What the lost one signed is still served.
    assert_eq!(trusted(&fake, CONFIGURATION), [certificates(&secret(&fake)), lost].concat());
    checked(&mut keeper, start() + lifetimes().overlap() + seconds(1)).await;
    assert_eq!(trusted(&fake, CONFIGURATION), certificates(&secret(&fake)));
}

#[rstest]
#[case::none(&[])]
#[case::only_policies(&[POLICIES_CONFIGURATION])]
#[tokio::test]
async fn missing_configurations_are_no_error_and_retire_nothing(#[case] there: &[&str]) {
    let fake = Fake::default();
    for name in there {
        fake.put(&configuration(name), sample(name, &["p.opportune.libre.sh"], ""));
    }
    let mut keeper = keeper(&fake);
    checked(&mut keeper, start()).await;
    checked(&mut keeper, start() + seconds(200)).await;
    checked(&mut keeper, start() + seconds(200) + lifetimes().overlap() + seconds(5)).await;
    assert_eq!(certificates(&secret(&fake)).len(), 2);
    for name in there {
        assert_eq!(trusted(&fake, name), certificates(&secret(&fake)));
    }
}

#[tokio::test]
async fn a_configuration_that_can_not_be_written_does_not_keep_the_other_from_it() {
    let fake = installed();
    let policies = sample(POLICIES_CONFIGURATION, &["p.opportune.libre.sh"], "");
    fake.put(&configuration(POLICIES_CONFIGURATION), policies);
    // Refused once it is to be written.
    fake.meanwhile(|fake| fake.refuse(403, POLICIES_CONFIGURATION));
    let mut keeper = keeper(&fake);
    let error = keeper.check_until_settled(start()).await.unwrap_err();
    assert_eq!(
        advice(error),
        "can't update the MutatingWebhookConfiguration opportune-policies: refused with 403; trying again (does our \
         ServiceAccount have the chart's rights?)"
    );
    assert_eq!(fake.writes(), ["POST opportune-ca", "PUT opportune"]);
    fake.refuse(0, "");
    checked(&mut keeper, start()).await;
    assert_eq!(trusted(&fake, POLICIES_CONFIGURATION), certificates(&secret(&fake)));
}

#[rstest]
#[case::secret("opportune-ca", "can't read the Secret opportune-system/opportune-ca: refused with 500")]
#[case::configuration("opportune", "can't read the MutatingWebhookConfiguration opportune: refused with 500")]
#[tokio::test]
async fn what_can_not_be_read_is_told_and_nothing_is_written(#[case] path: &str, #[case] expected: &str) {
    let fake = installed();
    fake.refuse(500, &format!("/{path}"));
    let error = keeper(&fake).check_until_settled(start()).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(fake.writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_keeps_writing_against_us_is_met_less_and_less_often() {
    let fake = installed();
    let theirs: Value = sample(CONFIGURATION, &[OURS], "theirs");
    let mut keeper = keeper(&fake);
    let (mut waited, mut rounds) = (Duration::ZERO, 0);
    while waited < seconds(600) {
        fake.put(&configuration(CONFIGURATION), theirs.clone());
        checked(&mut keeper, start()).await;
        sleep(keeper.truce()).await;
        waited += keeper.truce();
        rounds += 1;
    }
    assert!(rounds < 25, "{rounds} times in ten minutes");
    sleep(LONGEST_TRUCE * 3).await;
    assert_eq!(keeper.truce(), Duration::ZERO, "and once they stopped, it is forgotten");
}
