//! What came late, what changed and what can't be delivered: one workload is told of it, or rid of it.
use super::{
    claims,
    controller::Controller,
    events::{About, Reason},
    queue::Done,
    uses::Used,
};
use crate::{
    cluster::{
        look::Kind,
        objects::{Refusal, Run},
    },
    watch::{Stored, WorkloadId},
};
use opportune_core::{
    admit::{Again, is_later, later, say, try_again, withdraw},
    decide::Refresh,
    inject::PatchOperation,
    intent::Intent,
    json::Json,
    keys,
    name::hex,
    workload::{self, Workload},
};
use std::{collections::BTreeMap, time::Duration};

/// How long a delivery may fail before it is taken back.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a workload is looked at again that changed in between.
const PAUSE: Duration = Duration::from_secs(1);
/// Events tell what happened, not what was long ago.
const NEWS: Duration = Duration::from_secs(300);

/// The address of a workload's kind.
pub(super) fn kind(kind: workload::Kind) -> Kind {
    Kind::of(kind.group(), "v1", kind.plural())
}

/// Looks at one workload.
pub(super) async fn refresh(controller: &Controller, id: &WorkloadId) -> Done {
    let Some((stored, again)) = controller.again(id) else { return Done::Well };
    let Some(used) = controller.uses().of(id).cloned() else { return Done::Well };
    let one = One { controller, id, stored: &stored, again: &again, used: &used };
    one.tell_news();
    let missed = controller.uses().set_missed(id, !again.missed.is_empty());
    controller.metrics.set_missed(missed);
    match one.work().await {
        Ok(done) => done,
        // It changed in between, and is looked at again for that.
        Err(Refusal::Conflict) => Done::Again(PAUSE),
        Err(Refusal::NotFound | Refusal::Terminating) => Done::Well,
        Err(Refusal::Refused(reason)) => {
            tracing::warn!(workload = %id, reason, "the workload can't be changed");
            Done::Failed
        }
        Err(Refusal::Away(_)) => Done::Failed,
    }
}

/// One workload under review.
struct One<'a> {
    controller: &'a Controller,
    id: &'a WorkloadId,
    stored: &'a Stored,
    again: &'a Again,
    used: &'a Used,
}

// === impl One ===

impl One<'_> {
    async fn work(&self) -> Result<Done, Refusal> {
        let intents = self.controller.uses().take_retry(self.id);
        if !intents.is_empty()
            && let Ok(operations) = try_again(&self.stored.object, &intents)
        {
            let done = self.change(&operations).await;
            if done != Ok(Done::Well) {
                self.controller.uses().retry(self.id, intents);
            }
            return done;
        }
        if let Some(done) = self.withdraw().await? {
            return Ok(done);
        }
        if self.again.refresh != Refresh::Never {
            self.tell_late();
            if let Some(status) = &self.again.status
                && let Ok(operations) = say(&self.stored.object, status)
            {
                return self.change(&operations).await;
            }
        }
        Ok(Done::Well)
    }

    /// Takes out what could not be delivered for too long, and says so; `None` where nothing lasts.
    async fn withdraw(&self) -> Result<Option<Done>, Refusal> {
        let mut reasons = self.controller.uses().lasting(self.id, PATIENCE);
        // One that needs something else by now is looked at first.
        if reasons.is_empty() || self.used.needs != self.again.needs {
            return Ok(None);
        }
        for intent in &self.again.required {
            if let Some(reason) = reasons.remove(intent) {
                let note = format!("{intent}: {reason}; it must not run without, so its pods wait");
                self.say(Reason::Refused, note, "required");
            }
        }
        if let Ok(storage) = Intent::parse("storage")
            && reasons.contains_key(&storage)
            && claims::has_any(self.controller, self.id, self.used).await?
        {
            // Another volume of the workload stands, and may hold data.
            reasons.remove(&storage);
        }
        if self.id.kind.is_made_once() {
            for (intent, reason) in &reasons {
                let note = format!("{intent}: {reason}; {}: its pods wait", self.cannot_change());
                self.say(Reason::Refused, note, "made once");
            }
            return Ok(None);
        }
        if reasons.is_empty() {
            return Ok(None);
        }
        let (catalog, options) = (self.controller.catalog.load(), self.controller.options());
        let operations = withdraw(&self.stored.object, &self.id.namespace, &catalog, &options, &reasons);
        let Ok(operations) = operations else { return Ok(None) };
        if operations.is_empty() {
            return Ok(None);
        }
        let done = self.change(&operations).await?;
        if done == Done::Well {
            for (intent, reason) in &reasons {
                tracing::warn!(workload = %self.id, %intent, reason, "withdrawn");
                self.controller.metrics.delivered("withdrawn");
                let note = format!("{intent}: taken out again, since it could not be delivered: {reason}");
                self.say(Reason::Withdrawn, note, &self.used.template);
            }
        }
        Ok(Some(done))
    }

    /// Changes the workload, if it still is as we saw it.
    async fn change(&self, operations: &[PatchOperation]) -> Result<Done, Refusal> {
        if operations.is_empty() {
            return Ok(Done::Well);
        }
        if let Err(wait) = self.controller.pace.take() {
            return Ok(Done::Again(wait));
        }
        let what = (self.id.namespace.as_str(), self.id.name.as_str(), self.stored.facts.version.as_str());
        self.controller.objects.change(kind(self.id.kind), what, operations, Run::Real).await?;
        Ok(Done::Well)
    }

    /// Says what an admission found a moment ago: it may write no Events itself.
    fn tell_news(&self) {
        let facts = &self.stored.facts;
        if facts.told.is_none_or(|told| told.elapsed() >= NEWS) {
            return;
        }
        let mut notes: BTreeMap<&str, (Reason, Vec<String>)> = BTreeMap::new();
        for part in facts.status.as_deref().unwrap_or_default().split("; ") {
            let Some((intent, text)) = part.split_once('=') else { continue };
            if is_later(text) {
                continue;
            }
            let (word, reason) = match text.split(':').next().unwrap_or_default() {
                word @ ("absent" | "incomplete") => (word, Reason::Absent),
                word @ "kept" => (word, Reason::Kept),
                "declined" | "withdrawn" | "forbidden" | "conflict" => continue,
                _ => ("bound", Reason::Bound),
            };
            let note = match reason {
                Reason::Bound => format!("{intent} is served by {text}"),
                Reason::Kept => format!("{intent} stays as it is: {}", text.trim_start_matches("kept: ")),
                _ => format!("runs without {intent}: {}", text.trim_start_matches("absent: ")),
            };
            notes.entry(word).or_insert((reason, Vec::new())).1.push(note);
        }
        for (reason, notes) in notes.into_values() {
            self.say(reason, notes.join("; "), "");
        }
    }

    /// Says what came or changed since the pods were made, or has them made anew.
    fn tell_late(&self) {
        self.tell_of_replicas();
        let stale = self.controller.stale(self.id);
        let Some(cause) = cause(self.again.cause.as_deref(), &stale) else {
            self.controller.rollouts().forget(self.id);
            return;
        };
        if self.stored.facts.refreshed.as_ref() == Some(&cause) {
            return;
        }
        if self.again.refresh == Refresh::Rollout && self.may_roll_out() {
            self.controller.rollouts().want(self.id, cause);
            self.controller.want(super::controller::Key::Rollouts, Duration::ZERO);
            return;
        }
        let pending: Vec<&str> = self.again.pending.iter().map(Intent::as_str).collect();
        let mut news = Vec::new();
        if !self.again.missed.is_empty() {
            news.push(format!(
                "{} was asked for while Opportune was away or too busy, and is there",
                pending.join(", ")
            ));
        } else if !pending.is_empty() {
            news.push(format!("what it may use changed: {}", pending.join(", ")));
        }
        if !stale.is_empty() {
            let names: Vec<&str> = stale.keys().map(String::as_str).collect();
            news.push(format!("credentials changed in {}", names.join(", ")));
        }
        if news.is_empty() {
            news.push("what was added to it was changed while Opportune was away or too busy".to_owned());
        }
        let how = self.how();
        self.say(Reason::Changed, format!("{}; {how}", news.join("; ")), &cause);
    }

    /// How its pods get what came late.
    fn how(&self) -> String {
        let kind = self.id.kind;
        match kind {
            workload::Kind::Deployment | workload::Kind::StatefulSet | workload::Kind::DaemonSet => format!(
                "its pods use that when they are made anew: kubectl rollout restart -n {} {}/{}",
                self.id.namespace,
                kind.name().to_ascii_lowercase(),
                self.id.name
            ),
            workload::Kind::CronJob => format!("its runs use that {}", later(kind)),
            workload::Kind::Job | workload::Kind::Pod => {
                format!("{}: that is used {}", self.cannot_change(), later(kind))
            }
        }
    }

    fn cannot_change(&self) -> String {
        format!("a {} can't change once it is there", self.id.kind.name())
    }

    /// Says where more pods are asked for than can use a volume at once.
    fn tell_of_replicas(&self) {
        let object = Json::from(&self.stored.object);
        let workload = Workload::read(&object).ok().flatten();
        if workload.is_none_or(|workload| workload.replicas() <= 1) {
            return;
        }
        for claim in self.used.needs.claims.values().filter(|claim| claim.volume.kind == "block") {
            let note = format!(
                "storage: {} is block storage, which one node at a time can use: more replicas can't start on other nodes",
                claim.path
            );
            self.say(Reason::Conflict, note, "replicas");
        }
    }

    fn may_roll_out(&self) -> bool {
        let is_paused = self.stored.object.pointer("/spec/paused").is_some_and(|paused| *paused == true);
        self.controller.may_roll_out
            && !self.id.kind.is_made_once()
            && !self.stored.facts.is_controlled
            && !is_paused
    }

    fn say(&self, reason: Reason, note: String, cause: &str) {
        self.controller.events.say(About::workload(self.id, &self.used.uid), reason, note, cause);
    }
}

/// Why the pods should be made anew, as eight hexadecimal digits; `None` where there is no reason.
pub(super) fn cause(template: Option<&str>, stale: &BTreeMap<String, String>) -> Option<String> {
    if template.is_none() && stale.is_empty() {
        return None;
    }
    let stale = stale.iter().flat_map(|(name, revision)| [name.as_str(), revision.as_str()]);
    let parts: Vec<&str> = [keys::REFRESHED, template.unwrap_or_default()].into_iter().chain(stale).collect();
    Some(hex(&parts, 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_cause_tells_templates_and_credentials_apart() {
        let stale = |revision: &str| BTreeMap::from([("secret".to_owned(), revision.to_owned())]);
        assert_eq!(cause(None, &BTreeMap::new()), None);
        let all = [cause(Some("a"), &BTreeMap::new()), cause(None, &stale("a")), cause(None, &stale("b"))];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(all[1], cause(None, &stale("a")));
    }
}
