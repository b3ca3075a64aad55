//! A replica before an API server that holds what a keeper wrote, or did not.
use super::*;
use crate::tls::{
    authorities::Authorities,
    configuration::sample,
    fake::{self, Fake, SECRET, configuration as path},
};
use rstest::rstest;

const WEBHOOKS: [&str; 2] = ["wants.opportune.libre.sh", "requires.opportune.libre.sh"];

fn lifetimes() -> Lifetimes {
    let lifetimes = Lifetimes::new(Duration::from_secs(3000), Duration::from_secs(1000)).unwrap();
    lifetimes.settling(Duration::ZERO).unwrap()
}

fn follower(fake: &Fake) -> Follower {
    let store = Store::new(fake.client(), "opportune-system".to_owned());
    Follower::new(store, names_of_service("opportune", "opportune-system"), lifetimes())
}

fn kept() -> Fake {
    let fake = Fake::default();
    let authorities = Authorities::new(SystemTime::now(), &lifetimes()).unwrap();
    fake.put(SECRET, fake::secret(&authorities.encode()));
    fake.put(&path(CONFIGURATION), sample(CONFIGURATION, &WEBHOOKS, &authorities.bundle()));
    fake
}

fn renew(follower: &mut Follower) -> Option<Loaded> {
    follower.renew(SystemTime::now(), Instant::now())
}

#[tokio::test]
async fn a_replica_signs_for_itself_and_writes_nothing() {
    let fake = kept();
    let mut one = follower(&fake);
    assert!(one.look().await);
    let loaded = renew(&mut one).unwrap();
    assert_eq!(one.health(Some(&loaded)), Health { is_valid: true, is_trusted: true });
    assert!(one.look().await);
    assert!(renew(&mut one).is_none(), "nothing changed");
    assert_eq!(one.wait(true, Instant::now()), Duration::from_secs(60));

    let mut other = follower(&fake);
    other.look().await;
    let others = renew(&mut other).unwrap();
    assert_ne!(others.certified.end_entity_cert().unwrap(), loaded.certified.end_entity_cert().unwrap());
    assert_eq!(fake.writes(), [""; 0]);
}

#[rstest]
#[case::no_configuration(&path(CONFIGURATION))]
#[case::no_secret(SECRET)]
#[tokio::test]
async fn without_one_of_the_two_nothing_is_served(#[case] missing: &str) {
    let fake = kept();
    fake.delete(missing);
    let mut follower = follower(&fake);
    assert!(follower.look().await, "that something is not there is an answer");
    assert!(renew(&mut follower).is_none());
    assert_eq!(follower.health(None), Health { is_valid: false, is_trusted: false });
}

#[rstest]
#[case::configuration("/opportune")]
#[case::secret("/opportune-ca")]
#[tokio::test]
async fn nothing_is_signed_by_old_news(#[case] unreadable: &str) {
    let fake = kept();
    let mut follower = follower(&fake);
    follower.look().await;
    let loaded = renew(&mut follower).unwrap();
    fake.refuse(500, unreadable);
    assert!(!follower.look().await);
    let later = SystemTime::now() + Duration::from_secs(900);
    assert!(follower.renew(later, Instant::now()).is_none());
    assert_eq!(
        follower.health(Some(&loaded)),
        Health { is_valid: true, is_trusted: true },
        "it is served on"
    );
    assert_eq!(follower.wait(false, Instant::now()), RETRY);

    fake.refuse(0, "");
    assert!(follower.look().await);
    assert!(follower.renew(later, Instant::now()).is_some());
}

#[rstest]
#[case("https://hook.example:8443/mutate", Some("hook.example"))]
#[case("https://192.0.2.7", Some("192.0.2.7"))]
#[case("https://[2001:db8::1]:8443", Some("2001:db8::1"))]
#[case("hook.example", None)]
#[case("", None)]
fn the_host_of_a_url_is_what_a_certificate_names(#[case] url: &str, #[case] host: Option<&str>) {
    assert_eq!(host_of(url).as_deref(), host);
}
