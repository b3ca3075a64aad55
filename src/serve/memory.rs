//! What was answered lately. A response is a function of the question, the catalog and the options, so the same question has the
//! same response for as long as neither of the others changes: whoever shows a change before it is made (`kubectl diff`, a dry run
//! of GitOps), is called twice or tries again asks it several times within moments.
use arc_swap::ArcSwap;
use opportune_core::{
    admit::Options,
    discover::Catalog,
    review::{NotAReview, Response},
};
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use std::sync::{Arc, Weak};

/// How much is remembered, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// About how many responses that is; and in how many parts they are kept, each with a lock of its own.
const RESPONSES: usize = 256;
const PARTS: usize = 2;
/// What an entry takes besides its contents, in bytes, roughly.
const ENTRY: usize = 200;

/// The responses to questions that were asked lately.
#[derive(Default)]
pub(super) struct Memory(ArcSwap<Moment>);

/// While the catalog and the options are the same.
struct Moment {
    /// Not kept alive: an old catalog must go.
    catalog: Weak<Catalog>,
    options: Weak<Options>,
    responses: Cache<Box<[u8]>, Arc<Response>, Bytes>,
}

#[derive(Clone)]
struct Bytes;

// === impl Memory ===

impl Memory {
    /// What was answered to `question` under this very catalog and these options, or else what `decide` says now.
    ///
    /// # Errors
    /// Those of `decide`; they are not remembered.
    pub(super) fn response(
        &self,
        question: &[u8],
        catalog: &Arc<Catalog>,
        options: &Arc<Options>,
        decide: impl FnOnce() -> Result<Response, NotAReview>,
    ) -> Result<Arc<Response>, NotAReview> {
        let mut moment = self.0.load_full();
        if !moment.is_of(catalog, options) {
            moment = Arc::new(Moment::of(catalog, options));
            self.0.store(Arc::clone(&moment));
        }
        if let Some(response) = moment.responses.get(question) {
            return Ok(response);
        }
        let response = Arc::new(decide()?);
        moment.responses.insert(question.into(), Arc::clone(&response));
        Ok(response)
    }
}

// === impl Moment ===

impl Moment {
    fn of(catalog: &Arc<Catalog>, options: &Arc<Options>) -> Self {
        let (catalog, options) = (Arc::downgrade(catalog), Arc::downgrade(options));
        Self { catalog, options, ..Self::default() }
    }

    /// A place in memory is not used again as long as a `Weak` points at it, so that one place is one catalog.
    fn is_of(&self, catalog: &Arc<Catalog>, options: &Arc<Options>) -> bool {
        Weak::as_ptr(&self.catalog) == Arc::as_ptr(catalog)
            && Weak::as_ptr(&self.options) == Arc::as_ptr(options)
    }
}

impl Default for Moment {
    fn default() -> Self {
        let limits = OptionsBuilder::new()
            .estimated_items_capacity(RESPONSES)
            .weight_capacity(MAX_BYTES)
            .shards(PARTS)
            .build();
        // Both numbers are given, and nothing else can be missing.
        let responses = match limits {
            Ok(limits) => Cache::with_options(limits, Bytes, Default::default(), Default::default()),
            Err(_) => Cache::with_weighter(RESPONSES, MAX_BYTES, Bytes),
        };
        Self { catalog: Weak::new(), options: Weak::new(), responses }
    }
}

// === impl Bytes ===

impl Weighter<Box<[u8]>, Arc<Response>> for Bytes {
    fn weight(&self, question: &Box<[u8]>, response: &Arc<Response>) -> u64 {
        (question.len() + response.size() + ENTRY) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opportune_core::review::Review;

    fn response() -> Result<Response, NotAReview> {
        let body = br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1"}}"#;
        Review::read(body)?.decide(&Catalog::default(), &Options::default())
    }

    /// Whether `question` is decided anew.
    fn is_decided(memory: &Memory, question: &[u8], catalog: &Arc<Catalog>, options: &Arc<Options>) -> bool {
        let mut is_decided = false;
        let decide = || {
            is_decided = true;
            response()
        };
        memory.response(question, catalog, options, decide).unwrap();
        is_decided
    }

    #[test]
    fn a_question_is_decided_once_for_each_catalog_and_options() {
        let memory = Memory::default();
        let (catalog, options) = (Arc::new(Catalog::default()), Arc::new(Options::default()));
        assert!(is_decided(&memory, b"a", &catalog, &options));
        assert!(!is_decided(&memory, b"a", &catalog, &options));
        assert!(is_decided(&memory, b"b", &catalog, &options));
        let other = Arc::new(Catalog::default());
        assert!(is_decided(&memory, b"a", &other, &options));
        assert!(is_decided(&memory, b"a", &other, &Arc::new(Options::default())));
    }

    #[test]
    fn an_old_catalog_is_not_kept() {
        let memory = Memory::default();
        let (catalog, options) = (Arc::new(Catalog::default()), Arc::new(Options::default()));
        is_decided(&memory, b"a", &catalog, &options);
        assert_eq!(Arc::strong_count(&catalog), 1);
    }

    #[test]
    fn what_can_not_be_decided_is_not_remembered() {
        let memory = Memory::default();
        let (catalog, options) = (Arc::new(Catalog::default()), Arc::new(Options::default()));
        let fails = || Err(NotAReview { reason: "too deep".into() });
        assert!(memory.response(b"a", &catalog, &options, fails).is_err());
        assert!(is_decided(&memory, b"a", &catalog, &options));
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let memory = Memory::default();
        let (catalog, options) = (Arc::new(Catalog::default()), Arc::new(Options::default()));
        for number in 0..3_000_u32 {
            let question = [&number.to_le_bytes()[..], &[b' '; 8_000]].concat();
            is_decided(&memory, &question, &catalog, &options);
        }
        let moment = memory.0.load();
        assert!(moment.responses.weight() <= MAX_BYTES && moment.responses.len() > 300);
    }
}
