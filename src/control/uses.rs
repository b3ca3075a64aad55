//! Who uses what, as the controller knows it: an index over the workloads, and what became of their deliveries. No IO.
use super::controller::Key;
use crate::watch::WorkloadId;
use opportune_core::{deliver::Needs, discover::OfferId, inject::record::Withdrawn, intent::Intent};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// What fails for so long is told: what we and the webhook know of the cluster may differ for a moment.
const SURE: Duration = Duration::from_secs(3);

/// What kind of object is delivered and shared by the workloads of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Made {
    Secret,
    ConfigMap,
}

/// A delivered object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Object {
    pub made: Made,
    pub namespace: String,
    pub name: String,
}

/// What one workload uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Used {
    pub uid: String,
    pub needs: Needs,
    pub withdrawn: BTreeMap<Intent, Withdrawn>,
    /// The intents that it asks for or has something of.
    pub concerned: BTreeSet<Intent>,
    /// The offers in use, with credentials or without.
    pub offers: BTreeSet<OfferId>,
    /// [`opportune_core::admit::template_hash`]
    pub template: String,
}

/// A delivered object as we last saw or wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub version: String,
    /// A hash of all but its owners, by a key of this process.
    pub print: u64,
    /// The keys that it holds: some are made no more, and stay for those that name them.
    pub keys: BTreeSet<String>,
    /// The uids of its owners.
    pub owners: BTreeSet<String>,
    /// Changes with its values.
    pub revision: String,
    /// Workloads whose pods were made with earlier values, each with the hash of its template then.
    pub stale: BTreeMap<String, String>,
    /// Whether nobody is likely to have changed it since.
    pub is_verified: bool,
}

/// Why something is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// Something of that name is not ours.
    Conflict,
    /// It may not be handed out.
    Refused,
    /// It can't be made.
    Failed,
}

/// A delivery that does not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub since: Instant,
    /// When it was last found to be so.
    pub until: Instant,
    pub problem: Problem,
    pub reason: String,
    /// Whether people were told.
    pub is_told: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Uses {
    workloads: HashMap<WorkloadId, Used>,
    users: HashMap<Object, BTreeSet<WorkloadId>>,
    /// Workloads that stand, and used an object before.
    former: HashMap<Object, BTreeSet<WorkloadId>>,
    copies: HashMap<Object, Copy>,
    /// When the claims of a workload, as it then was, were last found well.
    claimed: HashMap<WorkloadId, Instant>,
    troubles: HashMap<WorkloadId, BTreeMap<(Intent, String), Trouble>>,
    missed: HashSet<WorkloadId>,
    /// Workloads for which what was withdrawn is to be tried again, by intent.
    retries: HashMap<WorkloadId, BTreeSet<Intent>>,
}

// === impl Problem ===

impl Problem {
    /// The word of metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

// === impl Uses ===

impl Uses {
    /// Takes note of what a workload uses; returns the objects that it uses or used.
    pub(super) fn set(&mut self, id: &WorkloadId, used: Used) -> BTreeSet<Object> {
        let before = self.workloads.get(id).map(|used| objects(id, &used.needs)).unwrap_or_default();
        let now = objects(id, &used.needs);
        for object in before.difference(&now) {
            self.drop_user(object, id);
            self.former.entry(object.clone()).or_default().insert(id.clone());
        }
        for object in &now {
            self.users.entry(object.clone()).or_default().insert(id.clone());
            self.former.remove(object);
        }
        if let Some(troubles) = self.troubles.get_mut(id) {
            troubles.retain(|(_, name), _| is_needed(&used.needs, name));
        }
        let same = self
            .workloads
            .get(id)
            .filter(|before| before.uid == used.uid && before.needs.claims == used.needs.claims);
        if same.is_none() {
            self.claimed.remove(id);
        }
        self.workloads.insert(id.clone(), used);
        before.union(&now).cloned().collect()
    }

    /// Forgets a workload that is no more. What only it used is removed by Kubernetes, as its owner is gone.
    pub(super) fn remove(&mut self, id: &WorkloadId) {
        let used = self.workloads.remove(id).unwrap_or_default();
        for object in objects(id, &used.needs) {
            self.drop_user(&object, id);
            if !self.users.contains_key(&object) {
                self.copies.remove(&object);
            }
        }
        for former in self.former.values_mut() {
            former.remove(id);
        }
        self.former.retain(|_, former| !former.is_empty());
        self.troubles.remove(id);
        self.missed.remove(id);
        self.claimed.remove(id);
        self.retries.remove(id);
    }

    fn drop_user(&mut self, object: &Object, id: &WorkloadId) {
        if let Some(users) = self.users.get_mut(object) {
            users.remove(id);
            if users.is_empty() {
                self.users.remove(object);
            }
        }
    }

    /// All workloads, each with what it uses.
    pub(super) fn all(&self) -> impl Iterator<Item = (&WorkloadId, &Used)> {
        self.workloads.iter()
    }

    /// What a workload uses.
    pub(super) fn of(&self, id: &WorkloadId) -> Option<&Used> {
        self.workloads.get(id)
    }

    /// The workloads that use an object, each with what it uses.
    pub(super) fn users(&self, object: &Object) -> Vec<(WorkloadId, Used)> {
        let ids = self.users.get(object).into_iter().flatten();
        ids.filter_map(|id| Some((id.clone(), self.workloads.get(id)?.clone()))).collect()
    }

    /// The workloads that stand and used an object before.
    pub(super) fn former(&self, object: &Object) -> BTreeSet<WorkloadId> {
        self.former.get(object).cloned().unwrap_or_default()
    }

    /// Nothing more is to be done about an object that nobody uses.
    pub(super) fn forget(&mut self, object: &Object) {
        self.former.remove(object);
        self.copies.remove(object);
    }

    /// All objects that are used.
    pub(super) fn objects(&self) -> Vec<Object> {
        self.users.keys().cloned().collect()
    }

    /// How many workloads use an offer, of namespaces that may: what a record says is untrusted.
    pub(super) fn consumers(&self, offer: &OfferId, may_use: impl Fn(&str) -> bool) -> usize {
        let users = self.workloads.iter().filter(|(_, used)| used.offers.contains(offer));
        users.filter(|(id, _)| may_use(&id.namespace)).count()
    }

    /// The workloads from which something was withdrawn.
    pub(super) fn withdrawn(&self) -> impl Iterator<Item = (&WorkloadId, &Used)> {
        self.workloads.iter().filter(|(_, used)| !used.withdrawn.is_empty())
    }

    /// An object as we last saw it.
    pub(super) fn copy(&self, object: &Object) -> Option<&Copy> {
        self.copies.get(object)
    }

    /// Takes note of an object as it is; `None`: it has to be looked at again.
    pub(super) fn set_copy(&mut self, object: &Object, copy: Option<Copy>) {
        match copy {
            Some(copy) => drop(self.copies.insert(object.clone(), copy)),
            None => drop(self.copies.remove(object)),
        }
    }

    /// Takes note that the claims that a workload uses are there and as they should be.
    pub(super) fn set_claims(&mut self, id: &WorkloadId, used: &Used) {
        if self
            .workloads
            .get(id)
            .is_some_and(|now| now.uid == used.uid && now.needs.claims == used.needs.claims)
        {
            self.claimed.insert(id.clone(), Instant::now());
        }
    }

    /// Whether they were found so for these claims not longer ago than `time`.
    pub(super) fn has_claims(&self, id: &WorkloadId, time: Duration) -> bool {
        self.claimed.get(id).is_some_and(|at| at.elapsed() < time)
    }

    /// Somebody may have changed an object since we saw it; returns whether we did see it.
    pub(super) fn set_unverified(&mut self, object: &Object) -> bool {
        let copy = self.copies.get_mut(object);
        copy.is_some_and(|copy| {
            copy.is_verified = false;
            true
        })
    }

    /// Takes note that an object can't be delivered to a workload; returns whether people should hear of it now. One that is
    /// gone, or needs it no more, is not troubled.
    pub(super) fn trouble(
        &mut self,
        id: &WorkloadId,
        (intent, name): (&Intent, &str),
        problem: Problem,
        reason: &str,
    ) -> bool {
        if !self.workloads.get(id).is_some_and(|used| is_needed(&used.needs, name)) {
            return false;
        }
        let troubles = self.troubles.entry(id.clone()).or_default();
        let now = Instant::now();
        let new = || Trouble { since: now, until: now, problem, reason: reason.to_owned(), is_told: false };
        let trouble = troubles.entry((intent.clone(), name.to_owned())).or_insert_with(new);
        trouble.until = now;
        if (trouble.problem, trouble.reason.as_str()) != (problem, reason) {
            (trouble.problem, trouble.reason, trouble.is_told) = (problem, reason.to_owned(), false);
        }
        let is_sure = problem != Problem::Failed || now - trouble.since >= SURE;
        let is_news = is_sure && !trouble.is_told;
        trouble.is_told |= is_news;
        is_news
    }

    /// It was delivered, or nobody knows any more whether it can be.
    pub(super) fn well(&mut self, id: &WorkloadId, intent: &Intent, name: &str) {
        if let Some(troubles) = self.troubles.get_mut(id) {
            troubles.remove(&(intent.clone(), name.to_owned()));
            if troubles.is_empty() {
                self.troubles.remove(id);
            }
        }
    }

    /// What could not be delivered to a workload for as long as `patience`, by intent: what was last tried before that time was
    /// over may go well now. A claim that is not ours is not waited for: pods would run on it meanwhile.
    pub(super) fn lasting(&self, id: &WorkloadId, patience: Duration) -> BTreeMap<Intent, String> {
        let troubles = self.troubles.get(id).into_iter().flatten();
        let lasting = troubles.filter(|((intent, _), trouble)| {
            let is_foreign_claim = trouble.problem == Problem::Conflict && intent.is_storage();
            is_foreign_claim || trouble.until - trouble.since >= patience
        });
        let told = |trouble: &Trouble| match trouble.problem {
            Problem::Conflict => format!("conflict: {}", trouble.reason),
            Problem::Refused | Problem::Failed => trouble.reason.clone(),
        };
        lasting.map(|((intent, _), trouble)| (intent.clone(), told(trouble))).collect()
    }

    /// How long it is until what can't be delivered has failed for as long as `patience`.
    pub(super) fn until_lasting(&self, key: &Key, patience: Duration) -> Option<Duration> {
        let ids: Vec<&WorkloadId> = match key {
            Key::Object(object) => self.users.get(object).into_iter().flatten().collect(),
            Key::Workload(id) => vec![id],
            _ => return None,
        };
        let troubles = ids.into_iter().filter_map(|id| self.troubles.get(id)).flatten();
        let left = troubles.filter_map(|(_, trouble)| patience.checked_sub(trouble.since.elapsed()));
        left.filter(|left| !left.is_zero()).min()
    }

    /// The Secrets with whose earlier values the pods of a workload were made: each name with what its values are now.
    pub(super) fn stale(&self, id: &WorkloadId) -> BTreeMap<String, String> {
        let Some(used) = self.workloads.get(id) else { return BTreeMap::new() };
        let key = stale_key(id);
        let stale = used.needs.secrets.keys().filter_map(|name| {
            let object = Object { made: Made::Secret, namespace: id.namespace.clone(), name: name.clone() };
            let copy = self.copies.get(&object)?;
            (copy.stale.get(&key) == Some(&used.template)).then(|| (name.clone(), copy.revision.clone()))
        });
        stale.collect()
    }

    /// Takes note whether a workload was missed; returns how many are.
    pub(super) fn set_missed(&mut self, id: &WorkloadId, is_missed: bool) -> usize {
        // One that went while it was looked at would count for ever.
        match is_missed && self.workloads.contains_key(id) {
            true => drop(self.missed.insert(id.clone())),
            false => drop(self.missed.remove(id)),
        }
        self.missed.len()
    }

    /// Wants what was withdrawn from a workload to be tried again.
    pub(super) fn retry(&mut self, id: &WorkloadId, intents: BTreeSet<Intent>) {
        if self.workloads.contains_key(id) && !intents.is_empty() {
            self.retries.entry(id.clone()).or_default().extend(intents);
        }
    }

    /// Of which intents that was wanted since it was last asked.
    pub(super) fn take_retry(&mut self, id: &WorkloadId) -> BTreeSet<Intent> {
        self.retries.remove(id).unwrap_or_default()
    }
}

/// How a Secret's annotation names a workload.
pub(super) fn stale_key(id: &WorkloadId) -> String {
    format!("{}/{}", id.kind.name(), id.name)
}

fn is_needed(needs: &Needs, name: &str) -> bool {
    needs.secrets.contains_key(name)
        || needs.config_maps.contains_key(name)
        || needs.claims.contains_key(name)
}

fn objects(id: &WorkloadId, needs: &Needs) -> BTreeSet<Object> {
    let object =
        |made: Made, name: &String| Object { made, namespace: id.namespace.clone(), name: name.clone() };
    let secrets = needs.secrets.keys().map(|name| object(Made::Secret, name));
    secrets.chain(needs.config_maps.keys().map(|name| object(Made::ConfigMap, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opportune_core::deliver::SecretNeed;
    use opportune_core::workload::Kind;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn web() -> WorkloadId {
        WorkloadId { namespace: "blog".into(), kind: Kind::Deployment, name: "web".into() }
    }

    fn ldap() -> Intent {
        Intent::parse("ldap").unwrap()
    }

    fn using(name: &str) -> Used {
        let offer = OfferId::from_key("ServiceOffer/directory/openldap").unwrap();
        let need = SecretNeed { intent: ldap(), offer, keys: BTreeSet::new(), composed: BTreeMap::new() };
        let secrets = BTreeMap::from([(name.to_owned(), need)]);
        Used { needs: Needs { secrets, ..Needs::default() }, ..Used::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_tried_again_does_not_last() {
        let mut uses = Uses::default();
        uses.set(&web(), using("s"));
        uses.trouble(&web(), (&ldap(), "s"), Problem::Failed, "no");
        tokio::time::advance(PATIENCE).await;
        assert!(uses.lasting(&web(), PATIENCE).is_empty());
        uses.trouble(&web(), (&ldap(), "s"), Problem::Failed, "no");
        assert_eq!(uses.lasting(&web(), PATIENCE).len(), 1);
        uses.well(&web(), &ldap(), "s");
        uses.trouble(&web(), (&ldap(), "s"), Problem::Failed, "no");
        assert!(uses.lasting(&web(), PATIENCE).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn people_are_told_once_and_of_a_failure_when_it_is_sure() {
        let mut uses = Uses::default();
        uses.set(&web(), using("s"));
        let mut told = |problem, reason: &str| uses.trouble(&web(), (&ldap(), "s"), problem, reason);
        assert!(!told(Problem::Failed, "no"));
        tokio::time::advance(SURE).await;
        assert!(told(Problem::Failed, "no") && !told(Problem::Failed, "no"));
        assert!(told(Problem::Conflict, "no") && !told(Problem::Conflict, "no"));
        assert!(told(Problem::Conflict, "another"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_or_needs_it_no_more_is_not_troubled() {
        let mut uses = Uses::default();
        uses.set(&web(), using("s"));
        uses.set(&web(), using("t"));
        assert!(!uses.trouble(&web(), (&ldap(), "s"), Problem::Failed, "no"));
        assert_eq!(uses.set_missed(&web(), true), 1);
        uses.remove(&web());
        assert_eq!(uses.set_missed(&web(), true), 0);
        assert!(!uses.trouble(&web(), (&ldap(), "t"), Problem::Failed, "no"));
        assert!(uses.troubles.is_empty());
    }
}
