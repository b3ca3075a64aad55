//! Whatever happens in whatever order: when all is well again, each workload has what its pods need, and all is quiet.
use super::{
    api::Answer,
    world::{BLOG, OFFER, SECOND, SOURCE, World, credentials, offer, workload},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(all.len() as u64)).unwrap()]
    }
}

const NAMES: [&str; 3] = ["web", "worker", "cron"];
const CLASS: &str = "/apis/storage.k8s.io/v1/storageclasses/rook-ceph-block";

fn other() -> String {
    OFFER.replace("openldap", "other")
}

/// Something happens; returns what.
fn happen(world: &World, dice: &mut Dice) -> String {
    let name = dice.one_of(&NAMES);
    let is_there = world.api.get(&workload(name)).is_some();
    let annotate = |key: &'static str, value: Value| {
        move |object: &mut Value| {
            object["spec"]["template"]["metadata"]["annotations"][format!("opportune.libre.sh/{key}")] =
                value;
        }
    };
    match dice.roll(14) {
        0..3 if !is_there => {
            let wants = dice.one_of(&["ldap", "ldap, storage", "ldap, analytics"]);
            let key = dice.one_of(&["wants", "wants", "requires"]);
            let storage = [(key, wants), ("storage", "/data=1Gi")];
            if world.may_create(name, &storage) { format!("{name} {key} {wants}") } else { String::new() }
        }
        0 => {
            world.delete(name);
            format!("{name} deleted")
        }
        1 => {
            let image = format!("example.org/unknown:{}", dice.roll(100));
            world
                .update(name, |web| web["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image));
            format!("{name} {image}")
        }
        2 => {
            let declines = dice.one_of(&["ldap", "analytics"]);
            world.update(name, annotate("declines", json!(declines)));
            format!("{name} declines {declines}")
        }
        3 => {
            let available = dice.roll(2);
            if is_there {
                world.api.edit(&workload(name), |web| web["status"]["availableReplicas"] = json!(available));
            }
            format!("{name} {available} available")
        }
        4 => {
            world.api.put(SOURCE, credentials(&format!("password-{}", dice.roll(100))));
            "other credentials".to_owned()
        }
        5 => {
            world.api.delete(SOURCE);
            "no credentials".to_owned()
        }
        6 | 7 => {
            let path = dice.one_of(&["openldap", "other"]);
            let at = OFFER.replace("openldap", path);
            if world.api.get(&at).is_some() {
                world.forget(&at);
                format!("{path} is gone")
            } else {
                world.know(&at, offer(path));
                format!("{path} is there")
            }
        }
        8..11 => {
            let method = dice.one_of(&["", "GET", "POST", "PUT", "PATCH", "DELETE"]);
            let part = dice.one_of(&["", "secrets", "blog/secrets", "persistentvolumeclaims", "deployments"]);
            let answers = [
                Answer::Code(403),
                Answer::Code(409),
                Answer::Code(422),
                Answer::Code(429),
                Answer::Code(500),
                Answer::Proxy404,
                Answer::Quota,
                Answer::Silence,
                Answer::Lost,
            ];
            let (answer, times) = (dice.one_of(&answers), dice.roll(20) as usize);
            world.api.refuse(method, part, answer, times);
            format!("{method} {part}: {times} times {answer:?}")
        }
        11 => {
            world.api.refuse_nothing();
            "no refusals".to_owned()
        }
        12 => match world.secret() {
            Some(path) if dice.roll(2) == 0 => {
                world.api.delete(&path);
                "the Secret is deleted".to_owned()
            }
            Some(path) => {
                world.api.edit(&path, |secret| secret["data"] = json!({"password": "eA=="}));
                "the Secret is changed".to_owned()
            }
            None => String::new(),
        },
        _ => {
            world.api.collect_garbage();
            String::new()
        }
    }
}

/// What a workload's pods lack.
fn lacks(world: &World, name: &str) -> Vec<String> {
    let object = world.workload(name);
    let pod = &object["spec"]["template"]["spec"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut lacks = Vec::new();
    for variable in list(&pod["containers"][0]["env"]) {
        let reference = &variable["valueFrom"]["secretKeyRef"];
        let Some(secret) = reference["name"].as_str() else { continue };
        let secret = world.api.get(&format!("{BLOG}/secrets/{secret}")).unwrap_or_default();
        if secret["data"][reference["key"].as_str().unwrap()].is_null() {
            lacks.push(variable.to_string());
        }
        let owners = list(&secret["metadata"]["ownerReferences"]);
        if !owners.iter().any(|owner| owner["uid"] == object["metadata"]["uid"]) {
            lacks.push(format!("to own {reference}"));
        }
    }
    for volume in list(&pod["volumes"]) {
        let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() else { continue };
        if world.api.get(&format!("{BLOG}/persistentvolumeclaims/{claim}")).is_none() {
            lacks.push(claim.to_owned());
        }
    }
    lacks
}

async fn simulate(seed: u64) {
    let (world, mut dice) = (World::new(), Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
    world.know(
        CLASS,
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "rook-ceph-block"},
            "provisioner": "rook-ceph.rbd.csi.ceph.com", "parameters": {"clusterID": "rook-ceph"}}),
    );
    let foreign = format!("{BLOG}/secrets/opportune-ldap-other-of-somebody-else");
    let theirs =
        world.api.put(&foreign, json!({"kind": "Secret", "metadata": {"name": "theirs"}, "type": "Opaque"}));
    world.api.telling(world.scene.listener.workloads.clone(), Duration::from_millis(dice.roll(3) * 700));
    let is_rollouts = dice.roll(2) == 0;
    let lead = || if is_rollouts { world.lead_with_rollouts() } else { world.lead() };
    let mut leader = lead();
    let mut story = Vec::new();
    for _ in 0..40 {
        story.push(happen(&world, &mut dice));
        if dice.roll(10) == 0 {
            story.push("another leader".to_owned());
            drop(std::mem::replace(&mut leader, lead()));
        }
        sleep(Duration::from_millis(dice.roll(20_000))).await;
    }
    world.api.refuse_nothing();
    world.api.put(SOURCE, credentials("last"));
    for path in [OFFER.to_owned(), other()] {
        if world.api.get(&path).is_none() {
            world.know(&path, offer(path.rsplit('/').next().unwrap()));
        }
    }
    sleep(200 * SECOND).await;
    world.api.collect_garbage();
    let story = format!("seed {seed}: {story:#?}");
    for name in NAMES.into_iter().filter(|name| world.api.get(&workload(name)).is_some()) {
        assert_eq!(lacks(&world, name), Vec::<String>::new(), "{name}: {story}");
        assert_ne!(world.status(name, "ldap"), "", "{name}: {story}");
    }
    let stale: BTreeSet<String> = world
        .api
        .paths("blog/secrets/opportune-ldap")
        .into_iter()
        .filter(|path| *path != foreign)
        .filter(|path| world.api.get(path).unwrap()["data"]["password"] != json!("bGFzdA=="))
        .filter(|path| world.is_named(path.rsplit('/').next().unwrap()))
        .collect();
    assert_eq!(stale, BTreeSet::new(), "{story}");
    assert_eq!(world.api.get(&foreign), Some(theirs), "{story}");
    world.api.asked();
    sleep(200 * SECOND).await;
    assert_eq!(world.api.written(), Vec::<String>::new(), "it is not quiet: {story}");
}

#[tokio::test(start_paused = true)]
async fn all_is_well_in_the_end() {
    for seed in 0..4 {
        simulate(seed).await;
    }
}
