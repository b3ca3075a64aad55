//! The flagship: WordPress, deployed as the official image is and given one annotation, uses what it found; and runs as well where
//! nothing is offered.
use crate::{
    browser::Browser,
    here,
    stage::{Cluster, SOON, Stage, text},
    trial::{trials, until},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{path::PathBuf, process::Command, time::Duration};

/// Local to WordPress.
pub const WEBMASTER: (&str, &str) = ("webmaster", "not in the directory 7");
/// In the directory alone.
pub const ALICE: (&str, &str) = ("alice", "through the looking-glass");
pub const SITE: &str = "http://blog.example.org";
const ALL: [&str; 4] = ["analytics", "ldap", "mail", "storage"];

/// A WordPress in this namespace, with one more annotation (or none), on which its first page is filled in: its title, and the
/// webmaster.
pub fn deploy(cluster: &Cluster, namespace: &str, annotation: &str) -> Result<()> {
    let wish = "opportune.libre.sh/wants: ldap, mail, analytics, storage";
    let manifest = include_str!("manifests/wordpress.yaml")
        .replace("namespace: blog", &format!("namespace: {namespace}"))
        .replace(wish, &format!("{wish}\n        {annotation}"));
    cluster.apply(&manifest)?;
    cluster.wait_for(namespace, "deployment/mariadb")?;
    cluster.wait_for(namespace, "deployment/wordpress")?;
    let form = [
        "weblog_title=The blog",
        "user_name=webmaster",
        "admin_password=not in the directory 7",
        "admin_password2=not in the directory 7",
        "admin_email=webmaster@example.org",
        "blog_public=0",
    ];
    let form = form.iter().flat_map(|field| ["--data-urlencode", field]);
    let mut arguments: Vec<&str> = form.collect();
    arguments.push("http://blog.example.org/wp-admin/install.php?step=2");
    let page = until("WordPress installs itself", SOON, || get(cluster, namespace, &arguments).map(Some))?;
    ensure!(page.contains("Success!"), "WordPress was not installed: {page}");
    Ok(())
}

/// A page of the WordPress in this namespace, by curl.
pub fn get(cluster: &Cluster, namespace: &str, arguments: &[&str]) -> Result<String> {
    let to = format!("blog.example.org:80:{}:80", address(cluster, namespace, "wordpress")?);
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "120", "--connect-to", &to]);
    let output = command.args(arguments).output().context("running curl")?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn address(cluster: &Cluster, namespace: &str, service: &str) -> Result<String> {
    Ok(text(&cluster.get(namespace, &format!("service/{service}"))?, "/spec/clusterIP").to_owned())
}

pub fn browser(cluster: &Cluster, namespace: &str) -> Result<Browser> {
    let blog = address(cluster, namespace, "wordpress")?;
    // In a namespace that is offered nothing, there may be no analytics at all.
    let statistics = address(cluster, "statistics", "matomo").unwrap_or_else(|_| "0.0.0.0".to_owned());
    Browser::open(&[("blog.example.org", &blog), ("stats.example.org", &statistics)])
}

pub fn log_in(browser: &Browser, (name, password): (&str, &str)) -> Result<()> {
    browser.visit(&format!("{SITE}/wp-login.php"))?;
    browser.fill("#user_login", name)?;
    browser.fill("#user_pass", password)?;
    browser.click("#wp-submit")
}

/// What the workload's status says of each intent.
pub fn status(cluster: &Cluster, namespace: &str, workload: &str) -> Result<String> {
    let workload = cluster.get(namespace, workload)?;
    Ok(text(&workload, "/metadata/annotations/opportune.libre.sh~1status").to_owned())
}

fn picture(name: &str) -> PathBuf {
    here().join("../.cache/tests/node-pictures").join(name)
}

fn where_nothing_is_offered_it_runs_with_local_login_only(stage: &Stage) -> Result<()> {
    let cluster = stage.alone()?;
    let status = status(cluster, "alone", "deployment/wordpress")?;
    for intent in ALL {
        ensure!(status.contains(&format!("{intent}=absent")), "{status}");
    }
    ensure_untouched(cluster, "wordpress")?;
    let browser = browser(cluster, "alone")?;
    log_in(&browser, ALICE)?;
    let refusal = browser.text("#login_error")?;
    ensure!(refusal.contains("not registered"), "the directory's user: {refusal}");
    log_in(&browser, WEBMASTER)?;
    ensure!(browser.text("#wp-admin-bar-my-account")?.contains("webmaster"), "{}", browser.page());
    Ok(())
}

fn where_no_storage_is_offered_an_app_keeps_its_own_volume(stage: &Stage) -> Result<()> {
    let cluster = stage.alone()?;
    cluster.apply(include_str!("manifests/own-volume.yaml"))?;
    cluster.wait_for("alone", "deployment/notebook")?;
    let status = status(cluster, "alone", "deployment/notebook")?;
    ensure!(status.starts_with("storage=absent"), "{status}");
    ensure_untouched(cluster, "notebook")?;
    let note = cluster.exec("alone", "deployment/notebook", &["cat", "/data/note"])?;
    ensure!(note.trim() == "kept", "{note}");
    let claims = cluster.list("persistentvolumeclaims", &["-n", "alone"])?;
    ensure!(claims.is_empty(), "claims that nobody can bind: {claims:?}");
    Ok(())
}

/// Whether the pods of this app are to be as its owner wrote them.
fn ensure_untouched(cluster: &Cluster, name: &str) -> Result<()> {
    let workload = cluster.get("alone", &format!("deployment/{name}"))?;
    let written = text(&workload, "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    let written: Value = serde_json::from_str(written).context("it was not written by kubectl")?;
    // What the API server fills in is not ours to compare.
    for list in ["/containers/0/env", "/containers/0/volumeMounts", "/volumes"] {
        let is = workload.pointer(&format!("/spec/template/spec{list}"));
        let was = written.pointer(&format!("/spec/template/spec{list}"));
        ensure!(is == was, "{list} of {name} is {is:?}, and was written as {was:?}");
    }
    Ok(())
}

fn it_is_given_all_that_is_offered(stage: &Stage) -> Result<()> {
    let cluster = stage.blog()?;
    let status = status(cluster, "blog", "deployment/wordpress")?;
    for offer in ["ldap=directory/openldap", "mail=mail/mail", "analytics=statistics/matomo"] {
        ensure!(status.contains(offer), "{status}");
    }
    Ok(())
}

fn a_user_of_the_directory_logs_in(stage: &Stage) -> Result<()> {
    let cluster = stage.blog()?;
    let browser = browser(cluster, "blog")?;
    log_in(&browser, (ALICE.0, "a wrong password"))?;
    let refusal = browser.text("#login_error")?;
    ensure!(!refusal.is_empty(), "a wrong password was taken: {}", browser.page());
    log_in(&browser, ALICE)?;
    ensure!(browser.text("#wp-admin-bar-my-account")?.contains("Alice Liddell"), "{}", browser.page());
    browser.picture(&picture("directory-user.png"))?;
    // The directory has seen it: who asked was the service account, and who was bound was Alice.
    let log = cluster.kubectl(&["logs", "-n", "directory", "deployment/openldap"])?;
    for who in ["cn=reader,dc=example,dc=org", "uid=alice,ou=people,dc=example,dc=org"] {
        ensure!(log.contains(&format!("BIND dn=\"{who}\" mech=SIMPLE")), "no bind of {who} in the directory's log");
    }
    Ok(())
}

fn a_lost_password_mail_arrives_in_the_mailbox(stage: &Stage) -> Result<()> {
    let cluster = stage.blog()?;
    let browser = browser(cluster, "blog")?;
    browser.visit(&format!("{SITE}/wp-login.php?action=lostpassword"))?;
    browser.fill("#user_login", WEBMASTER.0)?;
    browser.click("#wp-submit")?;
    let answer = browser.text("#login .message, #login_error")?;
    ensure!(answer.contains("Check your email"), "{answer}");
    browser.picture(&picture("lost-password.png"))?;
    // Before it, the mailbox was told that the site is installed.
    let mail = until("the mail arrives", Duration::from_secs(30), || {
        let mails: Vec<_> = (1..=3).map(|number| mail(cluster, "webmaster:webmaster-mail", number)).collect::<Result<_>>()?;
        Ok(mails.into_iter().find(|mail| mail.contains("Password Reset")))
    })?;
    for part in ["From: WordPress <noreply@example.org>", "To: webmaster@example.org", "wp-login.php?"] {
        ensure!(mail.contains(part), "{part} is not in the mail: {mail}");
    }
    let log = cluster.kubectl(&["logs", "-n", "mail", "deployment/mail"])?;
    ensure!(log.contains("sasl_method=") && log.contains("sasl_username=apps"), "the mail came without a login: {log}");
    Ok(())
}

/// A mail of this account's mailbox, by IMAP over TLS; empty where there is none.
pub fn mail(cluster: &Cluster, account: &str, number: u32) -> Result<String> {
    let to = format!("mail.mail.svc:993:{}:993", address(cluster, "mail", "mail")?);
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "20", "--insecure", "--connect-to", &to, "--user", account])
        .arg(format!("imaps://mail.mail.svc/INBOX;MAILINDEX={number}"))
        .output()
        .context("running curl")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn a_visit_is_recorded_by_the_analytics(stage: &Stage) -> Result<()> {
    let cluster = stage.blog()?;
    let browser = browser(cluster, "blog")?;
    browser.visit(&format!("{SITE}/?visit=recorded"))?;
    browser.picture(&picture("visit.png"))?;
    let hit = until("the visit is recorded", Duration::from_secs(30), || {
        let hits = cluster.exec("statistics", "deployment/matomo", &["cat", "/var/lib/statistics/hits"])?;
        Ok(hits.lines().find(|line| line.contains("visit=recorded")).map(str::to_owned))
    })?;
    ensure!(hit.contains(r#""site":"7""#), "{hit}");
    Ok(())
}

trials![
    where_nothing_is_offered_it_runs_with_local_login_only,
    where_no_storage_is_offered_an_app_keeps_its_own_volume,
    it_is_given_all_that_is_offered,
    a_user_of_the_directory_logs_in,
    a_lost_password_mail_arrives_in_the_mailbox,
    a_visit_is_recorded_by_the_analytics,
];
