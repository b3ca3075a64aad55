//! Storage: claims that Opportune makes live on a real CephFS, and what apps write outlives their pods.
use crate::{
    stage::{CEPHFS, Stage, text},
    trial::trials,
    wordpress::{self, SITE, WEBMASTER},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, path::PathBuf};

fn an_upload_survives_the_deletion_of_its_pod(stage: &Stage) -> Result<()> {
    let cluster = stage.blog()?;
    let status = wordpress::status(cluster, "blog", "deployment/wordpress")?;
    ensure!(status.contains("storage=rook-cephfs"), "{status}");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("notes.txt");
    let written = format!("written by process {}", std::process::id());
    fs::write(&file, &written)?;
    let browser = wordpress::browser(cluster, "blog")?;
    wordpress::log_in(&browser, WEBMASTER)?;
    browser.text("#wp-admin-bar-my-account")?;
    browser.visit(&format!("{SITE}/wp-admin/media-new.php?browser-uploader"))?;
    browser.fill("#async-upload", file.to_str().context("a path that is no text")?)?;
    browser.click("#html-upload")?;
    browser.text(".wp-list-table, .attachments, #wp-media-grid")?;
    let url = upload(&wordpress::get(cluster, "blog", &[&format!("{SITE}/?rest_route=/wp/v2/media")])?)?;

    // It lies on the file system that is mounted from Ceph.
    let kind = std::process::Command::new("stat").args(["-f", "-c", "%T", CEPHFS]).output()?;
    ensure!(String::from_utf8_lossy(&kind.stdout).starts_with("fuse"), "{CEPHFS} is not mounted");
    let found = find(PathBuf::from(CEPHFS), "notes.txt")?.with_context(|| format!("no notes.txt in {CEPHFS}"))?;
    ensure!(fs::read_to_string(&found)? == written, "{} holds something else", found.display());

    let before = pod(stage)?;
    cluster.kubectl(&["delete", "pod", "-n", "blog", &before, "--wait=true"])?;
    cluster.wait_for("blog", "deployment/wordpress")?;
    ensure!(before != pod(stage)?, "the pod was not deleted");
    let read = wordpress::get(cluster, "blog", &[&url])?;
    ensure!(read == written, "{url} holds {read:?}");
    Ok(())
}

fn a_stateful_set_keeps_its_data_on_the_claim_that_it_was_given(stage: &Stage) -> Result<()> {
    let cluster = stage.storage()?;
    cluster.namespace("wiki", &["inject=enabled"])?;
    cluster.apply(include_str!("manifests/statefulset.yaml"))?;
    cluster.wait_for("wiki", "statefulset/database")?;
    let claims = cluster.list("persistentvolumeclaims", &["-n", "wiki"])?;
    let [claim] = &claims[..] else { anyhow::bail!("{} claims, not one", claims.len()) };
    ensure!(text(claim, "/spec/storageClassName") == "rook-cephfs", "{claim}");
    ensure!(text(claim, "/status/phase") == "Bound", "{claim}");
    let sql = |statement: &str| {
        let command = ["mariadb", "-uwiki", "-pdatabase-secret", "-h127.0.0.1", "-N", "-e", statement, "wiki"];
        cluster.exec("wiki", "statefulset/database", &command)
    };
    sql("CREATE TABLE pages (title TEXT); INSERT INTO pages VALUES ('home')")?;
    cluster.kubectl(&["delete", "pod", "-n", "wiki", "database-0", "--wait=true"])?;
    cluster.wait_for("wiki", "statefulset/database")?;
    ensure!(sql("SELECT title FROM pages")?.trim() == "home", "the page is gone");
    Ok(())
}

/// The address of the newest upload, in WordPress's own words.
fn upload(answer: &str) -> Result<String> {
    let uploads: Value = serde_json::from_str(answer).with_context(|| answer.to_owned())?;
    let url = text(&uploads, "/0/source_url");
    ensure!(!url.is_empty(), "nothing was uploaded: {answer}");
    Ok(url.to_owned())
}

fn pod(stage: &Stage) -> Result<String> {
    let pods = stage.blog()?.list("pods", &["-n", "blog", "-l", "app=wordpress"])?;
    let running = pods.iter().find(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
    Ok(text(running.context("no WordPress runs")?, "/metadata/name").to_owned())
}

fn find(folder: PathBuf, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(entry.path(), name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

trials![
    an_upload_survives_the_deletion_of_its_pod,
    a_stateful_set_keeps_its_data_on_the_claim_that_it_was_given,
];
