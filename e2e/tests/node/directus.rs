//! A second real app, which takes all by variables itself: Directus, from the npm registry.
use crate::{
    stage::Stage,
    trial::{trials, until},
    wordpress::{ALICE, address, mail, status},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{process::Command, time::Duration};

fn it_is_given_the_directory_and_the_mail_server(stage: &Stage) -> Result<()> {
    let cluster = stage.directus()?;
    let status = status(cluster, "wiki", "deployment/directus")?;
    for offer in ["ldap=directory/openldap", "mail=mail/mail"] {
        ensure!(status.contains(offer), "{status}");
    }
    Ok(())
}

fn a_user_of_the_directory_logs_in_and_is_known_by_name(stage: &Stage) -> Result<()> {
    let refused = ask(stage, "/auth/login/ldap", &json!({ "identifier": ALICE.0, "password": "wrong" }))?;
    ensure!(refused.pointer("/errors/0/extensions/code") == Some(&"INVALID_CREDENTIALS".into()), "{refused}");
    let answer = ask(stage, "/auth/login/ldap", &json!({ "identifier": ALICE.0, "password": ALICE.1 }))?;
    ensure!(answer.pointer("/data/access_token").is_some(), "{answer}");
    let sql = "SELECT email, provider, external_identifier FROM directus_users WHERE provider = 'ldap'";
    let command = ["mariadb", "-udirectus", "-pdatabase-secret", "-h127.0.0.1", "-N", "-e", sql, "directus"];
    let found = stage.directus()?.exec("wiki", "deployment/mariadb", &command)?;
    ensure!(found.trim() == "alice@example.org\tldap\tuid=alice,ou=people,dc=example,dc=org", "{found}");
    Ok(())
}

fn a_lost_password_mail_of_it_arrives(stage: &Stage) -> Result<()> {
    let cluster = stage.directus()?;
    ask(stage, "/auth/password/request", &json!({ "email": "webmaster@example.org" }))?;
    until("the mail arrives", Duration::from_secs(30), || {
        for number in 1..=4 {
            let mail = mail(cluster, "webmaster:webmaster-mail", number)?;
            if mail.contains("wiki.example.org") {
                ensure!(mail.contains("<noreply@example.org>"), "it comes from somebody else: {mail}");
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
}

/// What Directus answers to a POST, also where it refuses; null where it says nothing.
fn ask(stage: &Stage, path: &str, body: &Value) -> Result<Value> {
    let address = address(stage.directus()?, "wiki", "directus")?;
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--header", "Content-Type: application/json"])
        .args(["--data", &body.to_string(), &format!("http://{address}:8055{path}")])
        .output()
        .context("running curl")?;
    ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    if output.stdout.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

trials![
    it_is_given_the_directory_and_the_mail_server,
    a_user_of_the_directory_logs_in_and_is_known_by_name,
    a_lost_password_mail_of_it_arrives,
];
