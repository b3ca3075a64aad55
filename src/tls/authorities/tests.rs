//! The states that a Secret goes through, with the time as an argument.
use super::*;
use rstest::rstest;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn start() -> SystemTime {
    UNIX_EPOCH + seconds(1_800_000_000)
}

fn lifetimes() -> Lifetimes {
    Lifetimes::new(seconds(300), seconds(100)).unwrap()
}

fn first() -> Authorities {
    Authorities::new(start(), &lifetimes()).unwrap()
}

fn bundled(authorities: &Authorities) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(authorities.bundle().as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn serials(authorities: &Authorities) -> Vec<CertificateDer<'static>> {
    authorities.newest_first().map(|authority| authority.certificate().clone()).collect()
}

#[rstest]
#[case::new(0, false)]
#[case::before_two_thirds(180, false)]
#[case::two_thirds(200, true)]
#[case::expired(301, true)]
#[case::clock_far_ahead(1_000_000_000, true)]
#[case::clock_behind(-100, true)]
fn an_authority_is_replaced_at_two_thirds_and_when_the_clock_jumped(#[case] at: i64, #[case] is_due: bool) {
    let at = match u64::try_from(at) {
        Ok(after) => start() + seconds(after),
        Err(_) => start() - seconds(at.unsigned_abs()),
    };
    assert_eq!(first().needs_rotation(at), is_due);
}

#[test]
fn an_old_authority_goes_only_when_the_new_one_was_trusted_for_the_overlap() {
    let lifetimes = lifetimes();
    let (first, now) = (first(), start() + seconds(200));
    let both = first.rotate(now, &lifetimes).unwrap();
    assert_eq!(serials(&both)[1..], serials(&first), "the new one before the old one");
    assert!(!both.needs_rotation(now));
    assert!(
        both.retire(now + lifetimes.overlap() * 9, &lifetimes).is_none(),
        "nobody trusts the new one yet"
    );

    let trusted = both.trusted(now + seconds(1)).unwrap();
    assert!(trusted.trusted(now + seconds(50)).is_none(), "that is known");
    let over = now + seconds(1) + lifetimes.overlap();
    assert!(trusted.retire(over - seconds(1), &lifetimes).is_none());
    let last = trusted.retire(over, &lifetimes).unwrap();
    assert_eq!(serials(&last), serials(&both)[..1]);
    assert!(last.retire(over, &lifetimes).is_none());
    assert!(last.trusted(over).is_none(), "there is nothing to retire");
}

#[test]
fn the_overlap_begins_anew_where_the_new_authority_was_taken_out_or_the_clock_was_ahead() {
    let lifetimes = lifetimes();
    let now = start() + seconds(200);
    let both = first().rotate(now, &lifetimes).unwrap().trusted(now).unwrap();
    let again = both.distrusted().unwrap().trusted(now + seconds(100)).unwrap();
    assert!(both.retire(now + lifetimes.overlap(), &lifetimes).is_some());
    assert!(again.retire(now + lifetimes.overlap(), &lifetimes).is_none());

    let ahead = both.distrusted().unwrap().trusted(now + seconds(1_000_000)).unwrap();
    let corrected = ahead.trusted(now + seconds(10)).unwrap();
    assert!(corrected.retire(now + seconds(10) + lifetimes.overlap(), &lifetimes).is_some());
}

#[test]
fn a_clock_that_jumps_about_makes_no_endless_bundle() {
    let lifetimes = lifetimes();
    let mut authorities = first();
    for _ in 0..10 {
        authorities = authorities.rotate(start(), &lifetimes).unwrap();
    }
    assert_eq!(authorities.newest_first().count(), MOST);
    assert_eq!(serials(&Authorities::decode(&authorities.encode()).unwrap()), serials(&authorities));
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let now = start() + seconds(200);
    let both = first().rotate(now, &lifetimes()).unwrap().trusted(now).unwrap();
    let read = Authorities::decode(&both.encode()).unwrap();
    assert_eq!(serials(&read), serials(&both));
    assert_eq!(read.trusted_since, Some(now + seconds(1)), "rounded up");
    assert_eq!(read.bundle().into_bytes(), both.encode()[CERTIFICATES].0, "the bundle is ca.crt");
    assert!(!format!("{read:?}").contains("PRIVATE"));
    assert_eq!(bundled(&read), serials(&both));
}

/// A certificate of ours that is none of an authority, behind one that is.
fn with_leaf() -> Data {
    let authorities = first();
    let leaf = authorities.newest.sign(&["a.example".to_owned()], start(), seconds(100)).unwrap();
    let mut data = authorities.encode();
    let both = authorities.bundle() + &pem(leaf.certified.end_entity_cert().unwrap());
    data.insert(CERTIFICATES.to_owned(), ByteString(both.into_bytes()));
    data
}

fn with(key: &str, value: &str) -> Data {
    let mut data = first().encode();
    data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
    data
}

#[rstest]
#[case::empty(Data::new(), "it has no ca.crt")]
#[case::no_key(first().encode().into_iter().filter(|(key, _)| key != KEYS).collect(), "it has no ca.key")]
#[case::nothing(with(CERTIFICATES, ""), "its ca.crt can't be used: nothing in PEM form is in it")]
#[case::text(with(KEYS, "secret"), "its ca.key can't be used: nothing in PEM form is in it")]
#[case::cut_off(
    with(KEYS, "-----BEGIN PRIVATE KEY-----\nsecret"),
    "its ca.key can't be used: it is not in PEM form"
)]
#[case::other_key(
    with(KEYS, first().newest.key_pem().expose()),
    "its ca.crt can't be used: the key belongs to another certificate"
)]
#[case::too_few_certificates(
    with(KEYS, &first().newest.key_pem().expose().repeat(2)),
    "its ca.key can't be used: 2 keys for 1 certificates"
)]
#[case::no_authority(
    with_leaf(),
    "its ca.crt can't be used: a certificate without a key is not that of an authority"
)]
#[case::too_many(
    with(CERTIFICATES, &first().bundle().repeat(5)),
    "its ca.crt can't be used: 5 entries, at most 4 are expected"
)]
fn a_broken_secret_is_explained_and_not_quoted(#[case] data: Data, #[case] expected: &str) {
    let error = Authorities::decode(&data).unwrap_err().to_string();
    assert_eq!(error, expected);
}

#[rstest]
#[case("soon")]
#[case("-1")]
#[case("99999999999999999999")]
#[case("18446744073709551615")]
fn an_unreadable_time_is_no_time(#[case] text: &str) {
    assert_eq!(Authorities::decode(&with(TRUSTED_SINCE, text)).unwrap().trusted_since, None);
}

#[test]
fn what_a_lost_secret_signed_is_trusted_for_the_overlap() {
    let (lifetimes, lost) = (lifetimes(), serials(&first()));
    let leaf = first().newest.sign(&["a.example".to_owned()], start(), seconds(100)).unwrap();
    let leaf = leaf.certified.end_entity_cert().unwrap().clone().into_owned();
    let found = [lost[0].clone(), lost[0].clone(), leaf, vec![1, 2].into()];
    let made = Authorities::instead_of(found, start(), &lifetimes).unwrap();
    let read = Authorities::decode(&made.trusted(start()).unwrap().encode()).unwrap();
    assert_eq!(bundled(&read), [serials(&made), lost].concat(), "each once, and nothing but authorities");
    assert_eq!(read.newest_first().count(), 1);

    let rotated = read.rotate(start(), &lifetimes).unwrap();
    assert_eq!(bundled(&rotated)[1..], bundled(&read));
    let last = read.retire(start() + lifetimes.overlap() + seconds(1), &lifetimes).unwrap();
    assert_eq!(bundled(&last), serials(&made));
}
