//! Attacks by text that is to become something else, and by calls past the API server.
use crate::{
    attacks::{PLANTED, Scene, offer},
    callers::authority,
    delivered::{Check, PROMPT, READ, idle, served},
    installed::readiness,
    offers::{secret, service},
    person::OFFERS,
    workload::{Kind, annotation, variables},
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::http::Request;
use kube::{Client, Config, client::Body, config::AuthInfo};
use opportune_e2e::{Program, eventually, free_address};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

const SOON: Duration = Duration::from_secs(30);

pub fn all(scene: &Scene) -> Vec<(&'static str, Check<'_>)> {
    vec![
        ("22: templates that reach further", Box::pin(reaching_further_by_templates(scene))),
        ("23: a setting that the kubelet expands", Box::pin(reading_variables_by_a_setting(scene))),
        ("24: settings that break lines", Box::pin(breaking_lines_by_settings(scene))),
        ("25: a credential in words about it", Box::pin(telling_a_credential_by_its_fault(scene))),
        ("26: addresses that are to be called", Box::pin(steering_calls(scene))),
        ("27: calls by others than the API server", Box::pin(calling_directly(scene))),
        ("28: bodies that are too much", Box::pin(overwhelming(scene))),
    ]
}

async fn reaching_further_by_templates(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("templates").await?;
    scene.mallory.create(OFFERS, &offer(&tenant, "own", None, Value::Null)).await?.object()?;
    served(&scene.admin, &idle(Kind::Deployment, &tenant, "probe", &[("wants", "cache")])).await?;
    let templates = [
        "A=[[ldap.password]]",
        "A=[[cache.password]]",
        "A=[[cache.host|sh]]",
        "A=x\u{7}[[cache.host]]",
        "=[[cache.host]]",
        "A B=[[cache.host]]",
        "A\u{0}B=[[cache.host]]",
        "../A=[[cache.host]]",
    ];
    for (number, template) in templates.iter().enumerate() {
        let answer = scene
            .wishes(&tenant, &format!("app-{number}"), &[("wants", "cache"), ("env.cache", template)])
            .await?;
        let warnings = answer.warnings.join(" ");
        // A NUL is nothing that the API server stores.
        let Ok(object) = answer.object() else { continue };
        let env = object["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
        ensure!(env == r#"[{"name":"OWN","value":"mine"}]"#, "{template:?}: {env}");
        let status = annotation(&object, "status");
        ensure!(!warnings.is_empty() || status.contains("cache="), "{template:?} is not told: {status}");
    }
    // What looks like a placeholder, or becomes one, is text.
    for (number, (template, text)) in [
        ("A=[[[[cache.host]].password]]", "[[own.example.org.password]]"),
        ("A=[[finance/ledger.password]]", "[[finance/ledger.password]]"),
        ("A=[[cache.host", "[[cache.host"),
    ]
    .iter()
    .enumerate()
    {
        let wishes = [("wants", "cache"), ("env.cache", template)];
        let object = scene.wishes(&tenant, &format!("text-{number}"), &wishes).await?.object()?;
        let entry = variables(&object, "A").first().copied().cloned().context("no A")?;
        ensure!(entry["value"] == **text, "{template}: {entry}");
    }
    // An offer's text that looks like a template is text.
    let mut odd = offer(&tenant, "odd", None, Value::Null);
    odd["spec"]["settings"]["host"] = "[[ldap.password]]".into();
    scene.mallory.create(OFFERS, &odd).await?.object()?;
    let wishes = [("wants", "cache"), ("use.cache", "odd"), ("env.cache", "A=[[cache.host]]")];
    let object = served(&scene.admin, &idle(Kind::Deployment, &tenant, "odd", &wishes)).await?;
    ensure!(variables(&object, "A")[0]["value"] == "[[ldap.password]]", "{}", variables(&object, "A")[0]);
    scene.has_nothing(&tenant).await
}

/// What the kubelet makes of a container's variables: `$(NAME)` is what was set before, `$$` is one dollar.
fn expanded(env: &[Value], known: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    let mut set: BTreeMap<String, String> =
        known.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    for entry in env {
        let Some(value) = entry["value"].as_str() else { continue };
        let (mut out, mut rest) = (String::new(), value);
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
                out.push_str(set.get(name).map_or(&format!("$({name})"), |value| value));
                rest = after;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        set.insert(entry["name"].as_str().unwrap_or_default().to_owned(), out);
    }
    set
}

/// An offer's owner would like to have the password of the app's database sent to a host of theirs.
async fn reading_variables_by_a_setting(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("kubelet").await?;
    let texts = ["$(DB_PASSWORD)", "$$(DB_PASSWORD)", "$", "a$(OWN)b$(DB_PASSWORD)c", "$(A)$(CACHE_HOST)"];
    for (number, host) in texts.iter().enumerate() {
        let name = format!("spy-{number}");
        let mut spy = offer(&tenant, &name, None, Value::Null);
        spy["spec"]["settings"] = json!({"host": host, "uri": format!("redis://{host}:6379")});
        scene.mallory.create(OFFERS, &spy).await?.object()?;
        for mapping in ["", "A=[[cache.host|uri]]\nB=x$[[cache.host|json]]", "B=$(OWN)[[cache.host|uri]]"] {
            let wishes = [("wants", "cache"), ("use.cache", name.as_str()), ("env.cache", mapping)];
            let wishes = if mapping.is_empty() { &wishes[..2] } else { &wishes[..] };
            let app = idle(Kind::Deployment, &tenant, &format!("app-{number}-{}", mapping.len()), wishes);
            let object = served(&scene.admin, &app).await?;
            let env =
                object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().context("no env")?;
            ensure!(env.len() > 1, "nothing was injected");
            let set = expanded(env, &BTreeMap::from([("DB_PASSWORD", "stolen")]));
            let ours = set.iter().filter(|(name, _)| !["OWN", "DB_PASSWORD"].contains(&name.as_str()));
            for (name, value) in ours {
                ensure!(!value.contains("stolen"), "{host:?} by {mapping:?}: {name}={value}");
                let mine = mapping.contains("$(OWN)") || !value.contains("mine");
                ensure!(mine, "{host:?} by {mapping:?}: {name}={value}");
            }
        }
    }
    Ok(())
}

async fn breaking_lines_by_settings(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("lines").await?;
    for (number, text) in ["a\nB=c", "a\r\nEvil: yes", "a\u{1b}[2J", "a\u{0}"].iter().enumerate() {
        let name = format!("odd-{number}");
        let mut odd = offer(&tenant, &name, None, Value::Null);
        odd["spec"]["settings"]["host"] = (*text).into();
        let made = scene.mallory.create(OFFERS, &odd).await?;
        let settings = format!("host: {}", json!(text));
        let marked = service(&tenant, &name, "cache", 6379, &settings, None);
        scene.mallory.create("services", &marked).await?.object()?;
        let app = idle(
            Kind::Deployment,
            &tenant,
            &format!("app-{number}"),
            &[("wants", "cache"), ("use.cache", &name)],
        );
        let status = eventually("the offer is known", PROMPT, async || {
            let object = scene.admin.try_out(&app).await?;
            ensure!(!object["spec"]["template"].to_string().contains("Evil"));
            let env = object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().map(Vec::len);
            ensure!(env == Some(1), "it was used: {}", object["spec"]["template"]["spec"]);
            let status = annotation(&object, "status");
            ensure!(status.contains("incomplete"), "{status}");
            Ok(Some(status.to_owned()))
        })
        .await?;
        ensure!(!status.chars().any(char::is_control), "{status:?}");
        if made.is_fine() {
            let (status, reason, message) = eventually("its status says so", PROMPT, async || {
                let offer = scene.admin.get("ServiceOffer", &tenant, &name).await?;
                Ok(Some(readiness(&offer)).filter(|(status, ..)| !status.is_empty()))
            })
            .await?;
            ensure!(
                status == "False" && reason == "Incomplete" && !message.chars().any(char::is_control),
                "{message}"
            );
        }
    }
    Ok(())
}

/// A credential that can't be used is named by its key, and what it is stays untold: all outputs are searched at the end.
async fn telling_a_credential_by_its_fault(scene: &Scene) -> Result<()> {
    let namespace = "finance";
    for (name, value) in [("lines", format!("{PLANTED}a\nb\u{7}c")), ("long", PLANTED.repeat(400))] {
        scene.admin.create(&secret(namespace, name, json!({"username": "a", "password": value}))).await?;
        let mut faulty = offer(namespace, name, Some(name), Value::Null);
        faulty["spec"]["intent"] = format!("faulty-{name}").into();
        // By the name of something public, too.
        faulty["spec"]["credentials"]["keys"] = json!({"password": "password", "comment": "password"});
        scene.admin.create(&faulty).await?;
        let app = served(
            &scene.admin,
            &idle(Kind::Deployment, namespace, name, &[("wants", &format!("faulty-{name}"))]),
        )
        .await?;
        ensure!(!app["spec"].to_string().contains(PLANTED), "{}", app["spec"]);
        let (_, reason, message) = eventually(&format!("{name} is not ready"), READ, async || {
            let offer = scene.admin.get("ServiceOffer", namespace, name).await?;
            Ok(Some(readiness(&offer)).filter(|(status, ..)| status == "False"))
        })
        .await?;
        ensure!(reason == "CredentialsIncomplete" && !message.contains(PLANTED), "{reason} {message}");
        println!("    of a password that is {name}: {message}");
    }
    Ok(())
}

/// Every address that an offer or a wish can name is that of the trap.
async fn steering_calls(scene: &Scene) -> Result<()> {
    let tenant = scene.tenant("steered").await?;
    let (host, port) = (scene.trap.address.ip().to_string(), scene.trap.address.port());
    let url = format!("https://{host}:{port}/");
    let mut target = offer(&tenant, "target", None, Value::Null);
    target["spec"]["settings"] = json!({"host": host, "port": port, "uri": url, "url": url});
    scene.mallory.create(OFFERS, &target).await?.object()?;
    let mut statistics = offer(&tenant, "statistics", None, Value::Null);
    statistics["spec"] = json!({"intent": "analytics", "provider": "matomo", "settings": {"url": url, "site-id": 1, "script": url, "endpoint": url}});
    scene.mallory.create(OFFERS, &statistics).await?.object()?;
    let settings = format!("host: {host}\nbase-dn: dc=a\nuri: ldap://{host}:{port}\ncertificates: {url}");
    let mut directory = service(&tenant, "directory", "ldap", port, &settings, None);
    directory["spec"] =
        json!({"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]});
    scene.mallory.create("services", &directory).await?.object()?;
    scene
        .mallory
        .create(
            "services",
            &service(&tenant, "mail", "mail", port, &format!("host: {host}\nfrom: a@{host}"), None),
        )
        .await?
        .object()?;
    let route = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "app", "namespace": tenant},
        "spec": {"rules": [{"host": "localhost", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "mail", "port": {"number": port}}}},
        ]}}]},
    });
    scene.mallory.create("networking.k8s.io/v1/ingresses", &route).await?.object()?;
    let wishes =
        [("wants", "cache, analytics, ldap, mail"), ("env.cache", &format!("A=[[cache.uri|uri]]\nB={url}"))];
    let mut app = idle(Kind::Deployment, &tenant, "app", &wishes);
    for key in ["uri", "url", "webhook", "profile", "image"] {
        app["metadata"]["annotations"][format!("opportune.libre.sh/{key}")] = url.as_str().into();
    }
    app["spec"]["template"]["spec"]["containers"][0]["image"] =
        format!("{host}:{port}/wordpress:latest").into();
    app["metadata"]["annotations"]["opportune.libre.sh/profile"] = "none".into();
    let object = served(&scene.admin, &app).await?;
    let status = annotation(&object, "status");
    for part in [
        "cache=steered/target",
        "analytics=steered/statistics",
        "ldap=steered/directory",
        "mail=steered/mail",
    ] {
        ensure!(status.contains(part), "{part}: {status}");
    }
    Ok(())
}

/// A client of the webhook's port that trusts whatever answers, with this certificate and key.
fn direct(address: SocketAddr, certificate: Option<(&str, &str)>) -> Result<Client> {
    let mut config = Config::new(format!("https://{address}").parse()?);
    config.accept_invalid_certs = true;
    config.read_timeout = Some(SOON);
    if let Some((certificate, key)) = certificate {
        config.auth_info = AuthInfo {
            client_certificate_data: Some(STANDARD.encode(certificate)),
            client_key_data: Some(STANDARD.encode(key).into()),
            ..AuthInfo::default()
        };
    }
    Ok(Client::try_from(config)?)
}

async fn reviewed(client: &Client, body: Vec<u8>) -> Result<u16> {
    let request =
        Request::post("/mutate").header("content-type", "application/json").body(Body::from(body))?;
    Ok(client.send(request).await?.status().as_u16())
}

fn review() -> Vec<u8> {
    let object = idle(Kind::Deployment, "consented", "direct", &[("wants", "ldap")]);
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    let resource = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    let request = json!({"uid": "1", "kind": kind, "resource": resource, "operation": "CREATE", "namespace": "consented",
        "name": "direct", "userInfo": {"username": "system:apiserver"}, "object": object});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        .to_string()
        .into_bytes()
}

/// With `--client-ca`, only who has a certificate of that authority is heard.
async fn calling_directly(scene: &Scene) -> Result<()> {
    let (ca, certificate, key) = authority("callers")?;
    // One of the same name, which somebody else made.
    let (_, forged, forged_key) = authority("callers")?;
    let folder = tempfile::tempdir_in(scene.plane().directory())?;
    let path = folder.path().join("ca.crt");
    std::fs::write(&path, ca)?;
    let (listen, admin) = (free_address()?, free_address()?);
    let kubeconfig = scene.installed.webhook_kubeconfig();
    let _program = Program::against(
        scene.plane(),
        kubeconfig,
        ["serve", "--tls=self-signed", "--roles=webhook", "--settle=0"],
    )
    .arguments([
        format!("--listen={listen}"),
        format!("--admin={admin}"),
        format!("--client-ca={}", path.display()),
    ])
    .arguments([format!("--namespace={}", crate::installed::SYSTEM)])
    .start_ready(admin, SOON)?;
    let known = reviewed(&direct(listen, Some((&certificate, &key)))?, review()).await?;
    ensure!(known == 200, "with the certificate: {known}");
    for (who, client) in
        [("nobody", direct(listen, None)?), ("a forger", direct(listen, Some((&forged, &forged_key)))?)]
    {
        let answer = reviewed(&client, review()).await;
        ensure!(answer.is_err(), "{who} is heard: {answer:?}");
    }
    Ok(())
}

async fn overwhelming(scene: &Scene) -> Result<()> {
    let webhook = &scene.installed.webhook;
    let client = direct(scene.installed.listen(), None)?;
    let deep = |open: &str, close: &str, count: usize| {
        format!(r#"{{"request":{{"uid":"1","object":{}1{}}}}}"#, open.repeat(count), close.repeat(count))
            .into_bytes()
    };
    let mut huge = review();
    huge.resize(9 << 20, b' ');
    for (what, body) in [
        ("nothing", Vec::new()),
        ("no JSON", b"\0\xff{".to_vec()),
        ("arrays in arrays", deep("[", "]", 500_000)),
        ("objects in objects", deep("{\"a\":", "}", 500_000)),
        ("more than 8 MiB", huge),
    ] {
        // Refused, or hung up on.
        let answer = reviewed(&client, body).await;
        ensure!(!matches!(answer, Ok(200)), "{what}: {answer:?}");
    }
    // A workload whose annotations are as large as the API server takes them.
    let tenant = scene.tenant("giant").await?;
    let many: Vec<String> = (0..25_000).map(|number| format!("i{number}")).collect();
    let wants = many.join(",");
    let answer = scene.wishes(&tenant, "app", &[("wants", wants.get(..140_000).unwrap_or(&wants))]).await?;
    ensure!(answer.is_fine(), "{} {}", answer.code, answer.message());
    ensure!(reviewed(&client, review()).await? == 200, "it answers no more");
    ensure!(webhook.program.get(webhook.admin, "/readyz")?.0 == 200, "it is not ready any more");
    Ok(())
}
