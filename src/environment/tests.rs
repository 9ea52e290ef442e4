use super::*;

const PROXY: &str = "http://127.0.0.1:14180";
const LIST: &str = "localhost,127.0.0.1,::1,169.254.169.254,metadata.google.internal,.svc,.cluster.local";
const JAVA: &str = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=14180 \
     -Dhttp.nonProxyHosts=127.*|[::1]|localhost|169.254.169.254|metadata.google.internal|*.svc|*.cluster.local \
     -Djavax.net.ssl.trustStore=/t/truststore.p12 -Djavax.net.ssl.trustStorePassword=changeit \
     -Djavax.net.ssl.trustStoreType=PKCS12";

fn wanted() -> Wanted {
    Wanted {
        proxy: Some(Proxy { address: "127.0.0.1:14180".parse().unwrap(), user_info: None }),
        metadata: Some("127.0.0.1:14181".parse().unwrap()),
        trust: Some(Trust::under("/t/")),
        project: Some("shop-prod".to_owned()),
        ..Wanted::default()
    }
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, Existing> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Existing::Literal((*value).to_owned()))).collect()
}

fn run(wanted: &Wanted, pairs: &[(&str, &str)]) -> Vec<Variable> {
    environment(wanted, &set(pairs))
}

fn of<'v>(variables: &'v [Variable], name: &str) -> Option<(&'v str, How, bool)> {
    let found: Vec<_> = variables.iter().filter(|variable| variable.name == name).collect();
    assert!(found.len() <= 1, "{name} occurs twice");
    found.first().map(|variable| (variable.value.as_str(), variable.how, variable.warning.is_some()))
}

#[test]
fn an_empty_environment_gets_every_variable_in_a_stable_order() {
    let variables = run(&wanted(), &[]);
    let pairs: Vec<_> = variables.iter().map(|variable| (variable.name, variable.value.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("HTTPS_PROXY", PROXY),
            ("https_proxy", PROXY),
            ("grpc_proxy", PROXY),
            ("NO_PROXY", LIST),
            ("no_proxy", LIST),
            ("SSL_CERT_FILE", "/t/bundle.pem"),
            ("REQUESTS_CA_BUNDLE", "/t/bundle.pem"),
            ("CURL_CA_BUNDLE", "/t/bundle.pem"),
            ("HTTPLIB2_CA_CERTS", "/t/bundle.pem"),
            ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "/t/bundle.pem"),
            ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "/t/bundle.pem"),
            ("NODE_EXTRA_CA_CERTS", "/t/ca.pem"),
            ("JAVA_TOOL_OPTIONS", JAVA),
            ("GCE_METADATA_HOST", "127.0.0.1:14181"),
            ("GCE_METADATA_IP", "127.0.0.1:14181"),
            ("GCE_METADATA_ROOT", "127.0.0.1:14181"),
            ("METADATA_SERVER_DETECTION", "assume-present"),
            ("GOOGLE_CLOUD_PROJECT", "shop-prod"),
            ("GCLOUD_PROJECT", "shop-prod"),
            ("CLOUDSDK_CORE_PROJECT", "shop-prod"),
            ("NODE_USE_ENV_PROXY", "1"),
            ("GOOGLE_API_USE_MTLS_ENDPOINT", "never"),
            ("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false"),
            ("GOOGLE_CLOUD_DISABLE_DIRECT_PATH", "true"),
            ("GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN", "false"),
        ]
    );
    assert!(variables.iter().all(|variable| variable.how == How::Set && variable.warning.is_none()));
}

#[test]
fn what_is_off_sets_nothing() {
    assert!(run(&Wanted::default(), &[]).is_empty());
    let no_metadata = run(&Wanted { metadata: None, ..wanted() }, &[("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")]);
    assert_eq!(of(&no_metadata, "CLOUDSDK_AUTH_DISABLE_CREDENTIALS"), Some(("true", How::Set, false)));
    assert!(of(&no_metadata, "GCE_METADATA_HOST").is_none());
    assert!(of(&no_metadata, "GOOGLE_APPLICATION_CREDENTIALS").is_none());
    let transparent = run(&Wanted { proxy: None, without_java: true, ..wanted() }, &[]);
    for name in ["HTTPS_PROXY", "NO_PROXY", "JAVA_TOOL_OPTIONS", "NODE_USE_ENV_PROXY"] {
        assert!(of(&transparent, name).is_none(), "{name}");
    }
    assert!(of(&transparent, "SSL_CERT_FILE").is_some());
}

#[test]
fn plain_http_goes_through_the_proxy_only_by_opt_in() {
    assert!(of(&run(&wanted(), &[]), "http_proxy").is_none());
    let opted = run(&Wanted { http_proxy: true, ..wanted() }, &[]);
    assert_eq!(of(&opted, "HTTP_PROXY"), Some((PROXY, How::Set, false)));
    assert_eq!(of(&opted, "http_proxy"), Some((PROXY, How::Set, false)));
    assert!(of(&opted, "JAVA_TOOL_OPTIONS").unwrap().0.contains("-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=14180"));
}

#[test]
fn a_password_for_the_proxy_is_in_its_url_and_in_no_debug_output() {
    let proxy = Proxy { address: "127.0.0.1:9".parse().unwrap(), user_info: Some("u:marker".to_owned()) };
    let variables = run(&Wanted { proxy: Some(proxy), ..Wanted::default() }, &[]);
    assert_eq!(of(&variables, "https_proxy").unwrap().0, "http://u:marker@127.0.0.1:9");
    assert!(!format!("{variables:?}").contains("marker"));
}

#[test]
fn the_list_of_direct_hosts_is_merged_without_blanks_empty_items_or_repeats() {
    let ours = |front: &str| if front.is_empty() { LIST.to_owned() } else { format!("{front},{LIST}") };
    type Case = (&'static [(&'static str, &'static str)], &'static str, &'static str, How);
    let cases: &[Case] = &[
        (&[], "", "", How::Set),
        (&[("NO_PROXY", "")], "", "", How::Set),
        (&[("NO_PROXY", "corp.example")], "corp.example", "corp.example", How::Merged),
        (
            &[("NO_PROXY", " corp.example , 10.0.0.0/8,, ")],
            "corp.example,10.0.0.0/8",
            "corp.example,10.0.0.0/8",
            How::Merged,
        ),
        (&[("NO_PROXY", "a"), ("no_proxy", "b")], "a", "b", How::Merged),
        (&[("no_proxy", "b")], "b", "b", How::Set),
        (&[("NO_PROXY", "a,a,b")], "a,b", "a,b", How::Merged),
    ];
    for (pairs, upper, lower, how) in cases {
        let variables = run(&wanted(), pairs);
        assert_eq!(of(&variables, "NO_PROXY"), Some((ours(upper).as_str(), *how, false)), "{pairs:?}");
        assert_eq!(of(&variables, "no_proxy").unwrap().0, ours(lower), "{pairs:?}");
    }
    let again = run(&wanted(), &[("NO_PROXY", LIST), ("no_proxy", LIST)]);
    assert_eq!(of(&again, "NO_PROXY").unwrap().0, LIST);
    let first = run(&wanted(), &[("NO_PROXY", ".svc,localhost")]);
    assert_eq!(of(&first, "NO_PROXY").unwrap().0.matches(".svc").count(), 1);
}

#[test]
fn the_api_server_is_named_by_a_reference_that_the_kubelet_expands() {
    let wanted = Wanted { kubernetes: true, no_proxy: vec!["db.corp, 10.1.2.3".to_owned()], ..wanted() };
    let variables = run(&wanted, &[("no_grpc_proxy", "x")]);
    let list = format!("{LIST},$(KUBERNETES_SERVICE_HOST),db.corp,10.1.2.3");
    assert_eq!(of(&variables, "NO_PROXY").unwrap().0, list);
    assert_eq!(of(&variables, "no_grpc_proxy"), Some((format!("x,{list}").as_str(), How::Merged, false)));
    assert!(of(&variables, "JAVA_TOOL_OPTIONS").unwrap().0.contains("|$(KUBERNETES_SERVICE_HOST)|db.corp|10.1.2.3 "));
}

#[test]
fn a_list_that_sends_google_past_us_is_reported() {
    for (item, past) in [
        ("*", true),
        (".googleapis.com", true),
        ("*.googleapis.com", true),
        ("googleapis.com", true),
        ("Storage.GoogleAPIs.com", true),
        ("googleapis.com:443", true),
        (".com", true),
        ("notgoogleapis.com", false),
        ("googleapis.com.corp", false),
        ("::2", false),
    ] {
        assert_eq!(of(&run(&wanted(), &[("NO_PROXY", item)]), "NO_PROXY").unwrap().2, past, "{item}");
    }
}

#[test]
fn options_of_a_jvm_are_appended_after_one_blank() {
    let cases: &[(&str, String, bool)] = &[
        ("", JAVA.to_owned(), false),
        ("-Xmx512m", format!("-Xmx512m {JAVA}"), false),
        ("  -Xmx512m -ea  ", format!("-Xmx512m -ea {JAVA}"), false),
        (JAVA, JAVA.to_owned(), false),
        ("-Dhttps.proxyHost=corp", format!("-Dhttps.proxyHost=corp {}", without("-Dhttps.proxy")), true),
        (
            "-Djavax.net.ssl.trustStore=/corp.jks",
            format!("-Djavax.net.ssl.trustStore=/corp.jks {}", without("-Djavax.net.ssl.trustStore")),
            true,
        ),
        ("-Dhttp.nonProxyHosts=a", format!("-Dhttp.nonProxyHosts=a {}", without("-Dhttp.nonProxyHosts")), true),
        ("-Dhttps.protocols=TLSv1.3", format!("-Dhttps.protocols=TLSv1.3 {JAVA}"), false),
    ];
    for (user, value, warned) in cases {
        let variables = run(&wanted(), &[("JAVA_TOOL_OPTIONS", user)]);
        let how = if user.is_empty() { How::Set } else { How::Merged };
        assert_eq!(of(&variables, "JAVA_TOOL_OPTIONS"), Some((value.as_str(), how, *warned)), "{user}");
    }
}

fn without(prefix: &str) -> String {
    JAVA.split(' ').filter(|flag| !flag.starts_with(prefix)).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_user_set_is_kept_and_reported_without_its_value() {
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "grpc_proxy",
        "ALL_PROXY",
        "all_proxy",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTPLIB2_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "NODE_EXTRA_CA_CERTS",
        "GCE_METADATA_HOST",
        "GCE_METADATA_IP",
        "GCE_METADATA_ROOT",
        "METADATA_SERVER_DETECTION",
        "NO_GCE_CHECK",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
        "GOOGLE_API_USE_MTLS_ENDPOINT",
        "GOOGLE_API_USE_CLIENT_CERTIFICATE",
        "GOOGLE_CLOUD_DISABLE_DIRECT_PATH",
        "GOOGLE_CLOUD_ENABLE_DIRECT_PATH_XDS",
        "GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN",
    ] {
        for existing in [Existing::Literal("marker".to_owned()), Existing::Reference] {
            let variables = environment(&wanted(), &BTreeMap::from([(name.to_owned(), existing.clone())]));
            let value = existing.literal().unwrap_or_default();
            assert_eq!(of(&variables, name), Some((value, How::Kept, true)), "{name}");
            let told = warnings(&variables);
            assert!(told.len() == 1 && told[0].starts_with(name) && !told[0].contains("marker"), "{told:?}");
            for format in [Format::Shell, Format::Dotenv, Format::Json, Format::K8s] {
                assert!(!print(&variables, format).contains("marker"), "{name}");
            }
        }
    }
}

#[test]
fn the_same_warning_is_given_once_for_all_its_variables() {
    let set = ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "GOOGLE_APPLICATION_CREDENTIALS"];
    let existing = set.map(|name| (name.to_owned(), Existing::Literal("/x".to_owned())));
    let told = warnings(&environment(&wanted(), &BTreeMap::from(existing)));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("SSL_CERT_FILE, CURL_CA_BUNDLE: already set, "), "{told:?}");
}

#[test]
fn a_reference_cannot_be_merged_into() {
    for name in ["NO_PROXY", "no_proxy", "no_grpc_proxy", "JAVA_TOOL_OPTIONS"] {
        let variables = environment(&wanted(), &BTreeMap::from([(name.to_owned(), Existing::Reference)]));
        assert_eq!(of(&variables, name), Some(("", How::Kept, true)), "{name}");
    }
}

#[test]
fn one_spelling_set_by_the_user_speaks_for_the_others() {
    for (theirs, silent) in [
        ("HTTPS_PROXY", &["https_proxy", "grpc_proxy"][..]),
        ("https_proxy", &["HTTPS_PROXY", "grpc_proxy"]),
        ("GOOGLE_CLOUD_PROJECT", &["GCLOUD_PROJECT"]),
        ("GCLOUD_PROJECT", &["GOOGLE_CLOUD_PROJECT"]),
    ] {
        let variables = run(&wanted(), &[(theirs, "other")]);
        assert_eq!(of(&variables, theirs).unwrap().1, How::Kept);
        for name in silent {
            assert!(of(&variables, name).is_none(), "{theirs} and {name}");
        }
    }
    // Its own values, met again, are not a conflict.
    let again = run(&wanted(), &[("HTTPS_PROXY", PROXY), ("SSL_CERT_FILE", "/t/bundle.pem")]);
    assert_eq!(of(&again, "grpc_proxy"), Some((PROXY, How::Set, false)));
    assert_eq!(of(&again, "SSL_CERT_FILE"), Some(("/t/bundle.pem", How::Set, false)));
}

#[test]
fn the_result_met_again_is_the_same() {
    let wanted = Wanted { kubernetes: true, http_proxy: true, ..wanted() };
    let first = run(&wanted, &[("NO_PROXY", "a"), ("JAVA_TOOL_OPTIONS", "-Xmx1g")]);
    let pairs: Vec<_> = first.iter().map(|variable| (variable.name, variable.value.as_str())).collect();
    let second = run(&wanted, &pairs);
    let value = |variable: &Variable| (variable.name, variable.value.clone(), variable.warning.clone());
    assert_eq!(first.iter().map(value).collect::<Vec<_>>(), second.iter().map(value).collect::<Vec<_>>());
}

fn one(value: &str) -> Vec<Variable> {
    vec![Variable { name: "A", value: value.to_owned(), how: How::Set, warning: None }]
}

#[test]
fn every_format_quotes_what_needs_it() {
    for (value, shell, dotenv, json) in [
        ("x", "export A='x'\n", "A=x\n", r#""x""#),
        ("", "export A=''\n", "A=\n", r#""""#),
        ("a b", "export A='a b'\n", "A=a b\n", r#""a b""#),
        ("a|b;c&d", "export A='a|b;c&d'\n", "A=a|b;c&d\n", r#""a|b;c&d""#),
        (" a", "export A=' a'\n", "A=' a'\n", r#"" a""#),
        ("it's", "export A='it'\\''s'\n", "A=\"it's\"\n", r#""it's""#),
        ("$(id)", "export A='$(id)'\n", "A='$(id)'\n", r#""$(id)""#),
        ("a\"#\\", "export A='a\"#\\'\n", "A='a\"#\\'\n", r##""a\"#\\""##),
        ("'$`", "export A=''\\''$`'\n", "A=\"'\\$\\`\"\n", r#""'$`""#),
        ("a\nb", "export A='a\nb'\n", "A=\"a\\nb\"\n", r#""a\nb""#),
    ] {
        let variables = one(value);
        assert_eq!(print(&variables, Format::Shell), shell);
        assert_eq!(print(&variables, Format::Dotenv), dotenv);
        assert_eq!(print(&variables, Format::Json), format!("{{\n  \"A\": {json}\n}}\n"));
        assert_eq!(print(&variables, Format::K8s), format!("- name: A\n  value: {json}\n"));
    }
}

#[test]
fn a_shell_and_a_yaml_reader_see_the_values_as_they_are() {
    let hostile = "a'b\"c$(false)`false`\\ \n|;&#%";
    let script = format!("{}printf %s \"$A\"", print(&one(hostile), Format::Shell));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), hostile);
    let yaml = print(&one(hostile), Format::K8s);
    let parsed: Vec<BTreeMap<String, String>> = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(parsed[0]["value"], hostile);
}
