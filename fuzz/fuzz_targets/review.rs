//! An AdmissionReview of any bytes, and of any object: it is answered, refused only where something is required, patched
//! so that the patch applies, and a second answer to the result changes nothing.
#![no_main]
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use opportune_core::{
    admit::{AdmissionResult, DeliveryState, Mode, Options, Request, Verdict, admit, take_out},
    inject::standard,
    json::Json,
    review,
};
use opportune_fuzz::{CATALOG, NAMESPACE, Writer, has_annotation};
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let _ = review::answer(data, &CATALOG, &Options::default());
    let _ = objects(&mut Unstructured::new(data));
});

fn objects(u: &mut Unstructured<'_>) -> Result<()> {
    let options = Options {
        mode: if u.arbitrary()? { Mode::OptIn } else { Mode::ClusterWide },
        excluded_namespaces: Vec::new(),
        delivery: if u.ratio(1, 6)? { DeliveryState::Away } else { DeliveryState::Present },
        ..Options::default()
    };
    let first = Writer::new(u).workload()?;
    let created = answered(&first, None, &options);
    let Some(created) = created else { return Ok(()) };
    // The server admits nothing without metadata; where it was missing, an empty one stays.
    let is_first = first["metadata"].is_object()
        && !has_annotation(&first, "injected")
        && !has_annotation(&first, "status");
    // What can't be read as a workload is admitted as it is, and can't be read here either.
    if is_first && let Ok(patch) = take_out(&created) {
        let mut bare = created.clone();
        json_patch::patch(&mut bare, &patch).expect("what takes out applies");
        assert_eq!(bare, first, "taking out gives back what was there");
    }
    // The user changes something, or writes it anew, with or without our annotations.
    let mut second = Writer::new(u).workload()?;
    if u.arbitrary()? {
        let annotations = created.pointer("/metadata/annotations").cloned().unwrap_or_default();
        if let Some(metadata) = second.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".into(), annotations);
        }
    }
    if u.arbitrary()?
        && let (Some(pod), Some(old)) =
            (second.pointer_mut("/spec/template/spec"), created.pointer("/spec/template/spec"))
    {
        *pod = old.clone();
    }
    answered(&second, Some(&created), &options);
    Ok(())
}

/// The object after its review, where it was admitted.
fn answered(object: &Value, old: Option<&Value>, options: &Options) -> Option<Value> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "apps", "version": "v1", "kind": object["kind"]},
            "namespace": NAMESPACE,
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "object": object,
            "oldObject": old,
        },
    });
    let bytes = serde_json::to_vec(&review).expect("JSON");
    let answer = review::answer(&bytes, &CATALOG, options).expect("this is a review");
    let answer: Value = serde_json::from_slice(&answer.body).expect("the answer is JSON");
    let response = &answer["response"];
    for warning in response["warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().expect("a warning is text");
        assert!(warning.chars().count() <= 120 && !warning.chars().any(char::is_control), "{warning:?}");
    }
    if response["allowed"] == false {
        assert!(has_annotation(object, "requires"), "refused without a requirement: {response}");
        return None;
    }
    let verdict = admitted(object, old, options);
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &standard(&verdict.patch)).expect("the patch applies");
    let again = admitted(&patched, old, options);
    if !matches!(verdict.result, AdmissionResult::FailedOpen(_)) {
        assert!(again.patch.is_empty(), "a second answer changes it: {:?}", again.patch);
    }
    Some(patched)
}

fn admitted(object: &Value, old: Option<&Value>, options: &Options) -> Verdict {
    let old = old.map(Json::from);
    admit(&Request { namespace: NAMESPACE, object: &Json::from(object), old: old.as_ref() }, &CATALOG, options)
}
