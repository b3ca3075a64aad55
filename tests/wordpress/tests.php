<?php

/** What the must-use plugin promises, each test by its sentence. Started by `run`, which has made the directory servers. */

declare(strict_types=1);

use Opportune\{Ber, Failure, Filter};
use PHPMailer\PHPMailer\PHPMailer;

error_reporting(E_ALL);
set_error_handler(static function (int $level, string $message, string $file, int $line): never {
    throw new ErrorException($message, 0, $level, $file, $line);
});

const PLUGIN = __DIR__ . '/../../core/src/inject/profiles/wordpress/opportune.php';
const SECRETS = ['-secret', 'pässword', 'mail-password'];

// === runner

$passed = $failed = 0;
$is_over = false;
register_shutdown_function(static function () use (&$passed, &$failed, &$is_over): void {
    if (!$is_over) {
        $failed++;
        echo "FAILED the tests ended before their end\n";
    }
    echo "$passed passed, $failed failed\n";
    exit($failed > 0 || $passed === 0 ? 1 : 0);
});

/** The misbehaving servers of the test that runs. */
$fakes = [];

function test(string $sentence, callable $body): void
{
    global $passed, $failed, $fakes;
    foreach (array_keys(getenv()) as $name) {
        if (str_starts_with($name, 'OPPORTUNE_')) {
            putenv($name);
        }
    }
    forget_all_users();
    $_POST = [];
    $GLOBALS['page'] = 'front';
    file_put_contents($GLOBALS['argv'][1], '');
    $started = hrtime(true);
    try {
        $body();
        foreach (log_lines() as $line) {
            check(preg_match('/^\[[^]]*\] opportune: (mail|directory): [\x20-\x7e]+$/D', $line) === 1, "a log line like $line");
            foreach (SECRETS as $secret) {
                check(!str_contains($line, $secret), "no secret in the log: $line");
            }
        }
        $passed++;
        printf("ok     %s (%.1f s)\n", $sentence, (hrtime(true) - $started) / 1e9);
    } catch (Throwable $failure) {
        $failed++;
        echo "FAILED $sentence\n       {$failure->getMessage()} ({$failure->getFile()}:{$failure->getLine()})\n";
        echo implode('', array_map(static fn (string $line): string => "       log: $line\n", log_lines()));
    } finally {
        foreach ($fakes as $fake) {
            proc_terminate($fake, 9);
            proc_close($fake);
        }
        $fakes = [];
    }
}

function check(bool $is_right, string $what): void
{
    if (!$is_right) {
        throw new RuntimeException("expected $what");
    }
}

function same(mixed $expected, mixed $found): void
{
    check($expected === $found, var_export($expected, true) . ', found ' . var_export($found, true));
}

function fails(callable $body, string $with = ''): void
{
    try {
        $body();
    } catch (Failure $failure) {
        check(str_contains($failure->getMessage(), $with), "a failure about '$with', found '{$failure->getMessage()}'");
        return;
    }
    throw new RuntimeException('expected a failure');
}

/** @return list<string> */
function log_lines(): array
{
    return file($GLOBALS['argv'][1], FILE_IGNORE_NEW_LINES);
}

function logged(string $text): void
{
    check(str_contains(implode("\n", log_lines()), $text), "'$text' in the log");
}

/** Sets the plugin's variables. */
function set(array $variables): void
{
    foreach ($variables as $name => $value) {
        putenv("OPPORTUNE_$name=$value");
    }
}

/** All parts are on while the plugin is loaded; each test then sets what it needs. */
set(['MAIL_HOST' => 'x', 'ANALYTICS_PROVIDER' => 'x', 'LDAP_HOST' => 'x']);
require __DIR__ . '/wordpress.php';
require '/usr/share/php/libphp-phpmailer/autoload.php';
require PLUGIN;

// === loading

/** The hooks that the plugin takes in a process of its own with these variables. */
function hooks_with(array $variables): array
{
    $code = 'error_reporting(E_ALL); require $argv[1]; $core = $GLOBALS["hooks"]; require $argv[2];'
        . 'foreach ($GLOBALS["hooks"] as $hook => $of) { if (($core[$hook] ?? null) !== $of) { echo $hook, "\n"; } }';
    $process = proc_open(
        [PHP_BINARY, '-d', 'display_errors=1', '-r', $code, '--', __DIR__ . '/wordpress.php', PLUGIN],
        [1 => ['pipe', 'w']],
        $pipes,
        null,
        $variables
    );
    $hooks = explode("\n", trim(stream_get_contents($pipes[1])));
    same(0, proc_close($process));
    return array_values(array_filter($hooks));
}

test('without variables it takes no hook', function () {
    same([], hooks_with([]));
});

test('each part takes its own hooks only', function () {
    same(['phpmailer_init', 'wp_mail_from', 'wp_mail_from_name'], hooks_with(['OPPORTUNE_MAIL_HOST' => 'mail']));
    same(['wp_head'], hooks_with(['OPPORTUNE_ANALYTICS_PROVIDER' => 'matomo']));
    check(in_array('authenticate', hooks_with(['OPPORTUNE_LDAP_HOST' => 'ldap']), true), 'authenticate');
});

test('opened by its address it does nothing', function () {
    exec(escapeshellarg(PHP_BINARY) . ' -d display_errors=1 ' . escapeshellarg(PLUGIN) . ' 2>&1', $output, $status);
    same([[], 0], [$output, $status]);
});

// === BER

test('lengths are written short and long', function () {
    same("\x04\x00", Ber::octets(''));
    same("\x04\x7f", substr(Ber::octets(str_repeat('x', 127)), 0, 2));
    same("\x04\x81\x80", substr(Ber::octets(str_repeat('x', 128)), 0, 3));
    same("\x04\x82\x01\x00", substr(Ber::octets(str_repeat('x', 256)), 0, 4));
    same("\x04\x83\x01\x00\x00", substr(Ber::octets(str_repeat('x', 65536)), 0, 5));
});

test('numbers come back as they were written', function () {
    same("\x02\x01\x00", Ber::integer(0));
    same("\x02\x02\x00\x80", Ber::integer(128));
    foreach ([0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 8388608, 2147483647] as $number) {
        same($number, (new Ber(Ber::integer($number)))->number());
        same($number, (new Ber(Ber::enumerated($number)))->number(Ber::ENUMERATED));
    }
});

test('strings of every length come back as they were written', function () {
    foreach ([0, 1, 126, 127, 128, 129, 255, 256, 257, 65535, 65536] as $length) {
        $reader = new Ber(Ber::octets(str_repeat("\xff", $length)) . Ber::octets('next'));
        same($length, strlen($reader->bytes()));
        same('next', $reader->bytes());
        same(true, $reader->is_over());
    }
});

test('padded lengths are read, as Active Directory writes them', function () {
    same('abc', (new Ber("\x04\x84\x00\x00\x00\x03abc"))->bytes());
});

test('hostile bytes are refused', function () {
    $hostile = [
        'nothing' => '', 'a tag alone' => "\x04", 'no content' => "\x04\x01", 'content cut off' => "\x04\x05abcd",
        'indefinite' => "\x04\x80ab\x00\x00", 'five bytes of length' => "\x04\x85\x00\x00\x00\x00\x01a",
        'length cut off' => "\x04\x82\x01", 'four gigabytes' => "\x04\x84\xff\xff\xff\xffx", 'reserved length' => "\x04\xff",
        'long tag' => "\x1f\x81\x01\x00", 'other tag' => "\x05\x00",
    ];
    foreach ($hostile as $name => $bytes) {
        fails(static fn () => (new Ber($bytes))->bytes(), 'malformed');
    }
    foreach (['empty' => "\x02\x00", 'negative' => "\x02\x01\x80", 'long' => "\x02\x05\x00\x00\x00\x00\x01"] as $bytes) {
        fails(static fn () => (new Ber($bytes))->number(), 'malformed');
    }
});

test('an element can not reach out of the one around it', function () {
    fails(static fn () => (new Ber("\x30\x03\x04\x05abcde"))->within(Ber::SEQUENCE)->bytes(), 'malformed');
});

test('random bytes are read or refused, and nothing else', function () {
    mt_srand(1);
    for ($round = 0; $round < 20000; $round++) {
        $bytes = '';
        for ($i = mt_rand(0, 12); $i > 0; $i--) {
            $bytes .= chr([0x30, 0x04, 0x02, 0x80, 0x81, 0x84, mt_rand(0, 255)][mt_rand(0, 6)]);
        }
        try {
            $reader = new Ber($bytes);
            while (!$reader->is_over()) {
                $reader->any();
            }
        } catch (Failure) {
        }
        try {
            $length = Ber::length_of_message($bytes, 1000);
            check($length === null || $length <= strlen($bytes), 'a message that is all there');
        } catch (Failure) {
        }
    }
});

test('a message is whole when its last byte is there', function () {
    foreach ([5, 200, 70000] as $size) {
        $message = Ber::sequence(str_repeat('x', $size));
        foreach ([0, 1, 2, 3, 4, strlen($message) - 1] as $part) {
            same(null, Ber::length_of_message(substr($message, 0, $part), 1 << 20));
        }
        same(strlen($message), Ber::length_of_message($message . 'more', 1 << 20));
    }
    fails(static fn () => Ber::length_of_message("\x30\x84\x7f\xff\xff\xff", 1 << 20), 'too long');
    fails(static fn () => Ber::length_of_message("\x30\x80", 1 << 20), 'malformed');
    fails(static fn () => Ber::length_of_message("\x30\x85", 1 << 20), 'malformed');
    fails(static fn () => Ber::length_of_message('H', 1 << 20), 'LDAP');
});

// === filters

test('filters are read as RFC 4515 has them', function () {
    $cases = [
        '(cn=Babs Jensen)' => Filter::equals('cn', 'Babs Jensen'),
        '(cn=)' => Filter::equals('cn', ''),
        '(cn=*)' => Filter::present('cn'),
        '(!(cn=Tim Howes))' => Ber::octets(Filter::equals('cn', 'Tim Howes'), 0xa2),
        '(&(objectClass=Person)(|(sn=Jensen)(uid=b)))'
            => Filter::all(Filter::equals('objectClass', 'Person'), Filter::any(Filter::equals('sn', 'Jensen'), Filter::equals('uid', 'b'))),
        '(o=Parens R Us \28for all your parenthetical needs\29)' => Filter::equals('o', 'Parens R Us (for all your parenthetical needs)'),
        '(cn=*\2A*)' => Ber::octets(Ber::octets('cn') . Ber::sequence(Ber::octets('*', 0x81)), 0xa4),
        '(o=univ*of*mich*)' => Ber::octets(
            Ber::octets('o') . Ber::sequence(Ber::octets('univ', 0x80) . Ber::octets('of', 0x81) . Ber::octets('mich', 0x81)),
            0xa4
        ),
        '(o=*mich)' => Ber::octets(Ber::octets('o') . Ber::sequence(Ber::octets('mich', 0x82)), 0xa4),
        '(filename=C:\5cMyFile)' => Filter::equals('filename', 'C:\MyFile'),
        '(bin=\00\00\00\04)' => Filter::equals('bin', "\0\0\0\4"),
        '(sn=Lu\c4\8di\c4\87)' => Filter::equals('sn', 'Lučić'),
        '(sn=Lučić)' => Filter::equals('sn', 'Lučić'),
        '(age>=5)' => Filter::equals('age', '5', 0xa5),
        '(age<=5)' => Filter::equals('age', '5', 0xa6),
        '(cn~=x)' => Filter::equals('cn', 'x', 0xa8),
        '(memberOf=cn=web,ou=groups,dc=example,dc=org)' => Filter::equals('memberOf', 'cn=web,ou=groups,dc=example,dc=org'),
        '(1.3.6.1.4.1.1466.0=x)' => Filter::equals('1.3.6.1.4.1.1466.0', 'x'),
        '(cn;lang-de=x)' => Filter::equals('cn;lang-de', 'x'),
        '(userAccountControl:1.2.840.113556.1.4.803:=2)' => Ber::octets(
            Ber::octets('1.2.840.113556.1.4.803', 0x81) . Ber::octets('userAccountControl', 0x82) . Ber::octets('2', 0x83),
            0xa9
        ),
        '(sn:dn:2.4.6.8.10:=Barney)' => Ber::octets(
            Ber::octets('2.4.6.8.10', 0x81) . Ber::octets('sn', 0x82) . Ber::octets('Barney', 0x83) . Ber::octets("\xff", 0x84),
            0xa9
        ),
        '(:1.2.3:=Wilma)' => Ber::octets(Ber::octets('1.2.3', 0x81) . Ber::octets('Wilma', 0x83), 0xa9),
    ];
    foreach ($cases as $text => $expected) {
        same(bin2hex($expected), bin2hex(Filter::parse($text)));
    }
});

test('what is no filter to the letter is refused', function () {
    $wrong = [
        '', 'cn=x', '(cn=x', 'cn=x)', '(cn=x))', '(cn=x)(sn=y)', '(cn=x) ', ' (cn=x)', '( cn=x)', '()', '(cn)', '(=x)', '(&)', '(|)',
        '(!)', '(!(a=b)(c=d))', '(&a=b)', '((a=b))', '(&(a=b)', '(cn=a(b)', '(cn=a\)', '(cn=a\2)', '(cn=a\zz)', '(cn=a**b)', '(cn=**)',
        "(cn=a\0b)", "(cn=\xff)", '(:=x)', '(:dn:=x)', '(cn:dn=x)', '(cn:1.2=x)', '(c n=x)', '(cn>=a*b)', '(cn:=a*b)', '(-cn=x)',
        str_repeat('(!', 30) . '(a=b)' . str_repeat(')', 30),
    ];
    foreach ($wrong as $text) {
        try {
            Filter::parse($text);
        } catch (Failure) {
            continue;
        }
        throw new RuntimeException("expected that $text is refused");
    }
});

// === directory

/** Points the plugin at a directory server; $more is laid over it. */
function directory(array $more = []): void
{
    set($more + [
        'LDAP_HOST' => 'localhost', 'LDAP_PORT' => getenv('TLS_GOOD'), 'LDAP_TLS' => 'tls', 'LDAP_CERTIFICATES' => getenv('CERTIFICATES'),
        'LDAP_BASE_DN' => 'dc=example,dc=org', 'LDAP_USERS_DN' => 'ou=people,dc=example,dc=org',
        'LDAP_BIND_DN' => 'cn=reader,dc=example,dc=org', 'LDAP_BIND_PASSWORD' => 'reader-secret',
        'LDAP_UID_ATTRIBUTE' => 'uid', 'LDAP_MAIL_ATTRIBUTE' => 'mail', 'LDAP_NAME_ATTRIBUTE' => 'cn', 'LDAP_USER_OBJECT_CLASS' => 'inetOrgPerson',
    ]);
}

/** A server that misbehaves; its port. */
function fake(string $mode): string
{
    $fake = proc_open([PHP_BINARY, __DIR__ . '/fake_server.php', $mode], [1 => ['pipe', 'w'], 2 => ['file', '/dev/null', 'w']], $pipes);
    $GLOBALS['fakes'][] = $fake;
    return trim(fgets($pipes[1]));
}

/** Logs in as the login form does, whose password has slashes. */
function login(string $name, string $password): WP_User|WP_Error
{
    $_POST = wp_slash(['log' => $name, 'pwd' => $password]);
    return wp_authenticate($name, $_POST['pwd']);
}

function let_in(string $name, string $password): WP_User
{
    $user = login($name, $password);
    check($user instanceof WP_User, "$name let in, found " . ($user instanceof WP_Error ? $user->get_error_code() : ''));
    return $user;
}

function refused(string $name, string $password, string $code = 'invalid_username'): void
{
    $users = $GLOBALS['users'];
    $user = login($name, $password);
    same($code, $user instanceof WP_Error ? $user->get_error_code() : 'let in');
    check($users == $GLOBALS['users'], 'no new user');
}

function local_user(string $login, string $password, string $mail): int
{
    return wp_insert_user(['user_login' => $login, 'user_pass' => $password, 'user_email' => $mail, 'role' => 'administrator']);
}

foreach (['none' => 'PLAIN', 'starttls' => 'PLAIN', 'tls' => 'TLS'] as $tls => $port) {
    test("a good login makes a user, by tls=$tls", function () use ($tls, $port) {
        directory(['LDAP_TLS' => $tls, 'LDAP_PORT' => getenv("{$port}_GOOD"), 'LDAP_CERTIFICATES' => $tls === 'none' ? '' : getenv('CERTIFICATES')]);
        $user = let_in('alice', 'alice-secret');
        same(['alice', 'alice@example.org', "Alice O'Hara \\ Sons", ['subscriber']], [$user->user_login, $user->user_email, $user->display_name, $user->roles]);
        same('alice', get_user_meta($user->ID, '_opportune_directory', true));
        same([], log_lines());
        refused('alice', 'wrong', 'incorrect_password');
        refused('guest', 'alice-secret');
        same([], log_lines());
    });
}

test('an address of IPv4 is checked against the certificate too', function () {
    directory(['LDAP_HOST' => '127.0.0.1']);
    let_in('alice', 'alice-secret');
});

test('the role is the one that is set, subscriber if the site has none such', function () {
    directory(['LDAP_ROLE' => 'author']);
    same(['author'], let_in('alice', 'alice-secret')->roles);
    set(['LDAP_ROLE' => 'emperor']);
    same(['subscriber'], let_in('guest', 'guest-secret')->roles);
    logged('OPPORTUNE_LDAP_ROLE');
});

test('without a bind account it searches as nobody', function () {
    directory(['LDAP_BIND_DN' => '', 'LDAP_BIND_PASSWORD' => '', 'LDAP_BASE_DN' => 'dc=open', 'LDAP_USERS_DN' => '']);
    let_in('olga', 'olga-secret');
    refused('olga', 'wrong', 'incorrect_password');
    set(['LDAP_BASE_DN' => 'dc=example,dc=org']);
    refused('alice', 'alice-secret');
});

test('a mail address logs in who has it', function () {
    directory();
    same('alice', let_in('alice@example.org', 'alice-secret')->user_login);
    same('alice', let_in('ALICE@example.org', 'alice-secret')->user_login);
    refused('alice@example.org', 'wrong', 'incorrect_password');
    refused('twins@example.org', 'twin-secret', 'invalid_email');
});

test('upper and lower case are one person', function () {
    directory();
    same(let_in('ALICE', 'alice-secret')->ID, let_in('alice', 'alice-secret')->ID);
    same(1, count($GLOBALS['users']));
});

test('a later login refreshes mail and name, without a mail about it', function () {
    directory();
    $id = let_in('alice', 'alice-secret')->ID;
    $GLOBALS['users'][$id]->user_email = 'old@example.org';
    $GLOBALS['users'][$id]->display_name = 'Old';
    $GLOBALS['users'][$id]->roles = ['editor'];
    $user = let_in('alice', 'alice-secret');
    same([$id, 'alice@example.org', "Alice O'Hara \\ Sons", ['editor']], [$user->ID, $user->user_email, $user->display_name, $user->roles]);
    same([], $GLOBALS['mails']);
    same(true, apply_filters('send_email_change_email', true));
});

test('quotes, backslashes and umlauts in a password are no hindrance', function () {
    directory();
    let_in('quotes', 'it\'s "a\b" pässword');
    forget_all_users();
    $_POST = [];
    check(wp_authenticate('quotes', 'it\'s "a\b" pässword') instanceof WP_User, 'a login without a form');
    forget_all_users();
    $_POST = ['account' => ['password' => addslashes('it\'s "a\b" pässword')]];
    check(wp_authenticate('quotes', $_POST['account']['password']) instanceof WP_User, 'a login by another form');
});

test('an empty password proves nothing, where the server takes it as well', function () {
    directory();
    exec('ldapwhoami -x -D uid=alice,ou=people,dc=example,dc=org -w "" -H ldap://127.0.0.1:' . getenv('PLAIN_GOOD') . ' 2>&1', $output, $status);
    same(0, $status);
    foreach (['', ' ', "\t"] as $password) {
        refused('alice', $password, 'empty_password');
    }
    foreach (["\0", "\0alice-secret", "alice-secret\0", "\xff"] as $password) {
        refused('alice', $password);
    }
    same(null, Opportune\authenticate(null, 'alice', ''));
    same([], log_lines());
});

test('a name is a name and no filter', function () {
    directory();
    $names = [
        '*', 'ali*', 'a*e', ')(uid=*))', '*)(uid=*', 'alice)(objectClass=*', '\2a', 'alice\00', '(|(uid=alice))',
        "\u{202e}alice", "al\u{0131}ce", "\xff\xfe", "\x30\x84", str_repeat('a', 10000), str_repeat('*', 10000), "alice\u{0000}x",
        'uid=alice,ou=people,dc=example,dc=org', '!', '&', '|', '=', ' ', "'", '"', '%2a', '日本語', str_repeat('é', 100),
    ];
    foreach ($names as $name) {
        foreach (['alice-secret', '*'] as $password) {
            $user = login($name, $password);
            check($user instanceof WP_Error, "no login by $name");
        }
    }
    foreach (["alice\0", "ali\0ce", "alice\n", "alice\x7f"] as $name) {
        same(null, Opportune\authenticate(null, $name, 'alice-secret')); // WordPress takes such characters out before.
    }
    same([], $GLOBALS['users']);
    same('stars', let_in('stars', '*')->user_login);
    same('***', get_user_by('login', 'stars')->display_name);
});

test('one login that two entries have lets nobody in', function () {
    directory();
    refused('twin', 'twin-secret');
    logged('more than one entry');
});

test('a name that WordPress would change is refused', function () {
    directory();
    foreach (['a/b' => 'slash-secret', 'josé' => 'jose-secret', 'many' => 'many-secret', 'names' => 'many-secret'] as $name => $password) {
        refused($name, $password);
    }
    logged('can be a login name');
});

test('accounts that the directory has shut stay out', function () {
    directory();
    foreach (['flagged', 'locked', 'shut'] as $name) {
        exec("ldapwhoami -x -D uid=$name,ou=people,dc=example,dc=org -w $name-secret -H ldap://127.0.0.1:" . getenv('PLAIN_GOOD') . ' 2>&1', $output, $status);
        check($status === 0 || $name === 'shut', "that the server lets $name in");
        refused($name, "$name-secret");
    }
    let_in('normal', 'normal-secret');
});

test('the filter and the object class of the operator hold', function () {
    directory(['LDAP_USER_FILTER' => '(employeeType=staff)']);
    let_in('alice', 'alice-secret');
    refused('guest', 'guest-secret');
    set(['LDAP_USER_FILTER' => '(|(employeeType=guest \28p*)(!(employeeType=*)))']);
    let_in('guest', 'guest-secret');
    refused('alice', 'alice-secret', 'incorrect_password');
    set(['LDAP_USER_FILTER' => '', 'LDAP_USER_OBJECT_CLASS' => 'posixAccount']);
    refused('alice', 'alice-secret', 'incorrect_password');
    set(['LDAP_USER_OBJECT_CLASS' => '', 'LDAP_USER_FILTER' => 'employeeType=staff']);
    refused('alice', 'alice-secret', 'incorrect_password');
    logged('OPPORTUNE_LDAP_USER_FILTER');
});

test('a local account is never taken over', function () {
    directory();
    $id = local_user('admin', 'local-secret', 'admin@example.org');
    refused('admin', 'directory-secret', 'incorrect_password');
    refused('ADMIN', 'directory-secret', 'incorrect_password');
    refused('other-admin@example.org', 'directory-secret', 'invalid_email');
    logged('stays one');
    same($id, let_in('admin', 'local-secret')->ID);
    same($id, let_in('admin@example.org', 'local-secret')->ID);
    same('', get_user_meta($id, '_opportune_directory', true));
});

test('a local password never goes to the directory', function () {
    directory(['LDAP_PORT' => fake('silent')]);
    local_user('admin', 'local-secret', 'admin@example.org');
    $started = hrtime(true);
    refused('admin', 'nearly-local-secret', 'incorrect_password');
    refused('admin@example.org', 'nearly-local-secret', 'incorrect_password');
    check(hrtime(true) - $started < 1e9, 'no wait for a server');
});

test("another account's mail address stays its own", function () {
    directory();
    $owner = local_user('owner', 'local-secret', 'owner@example.org');
    $user = let_in('borrower', 'borrower-secret');
    same(['', 'Borrower'], [$user->user_email, $user->display_name]);
    logged("can't have its mail address");
    same($owner, email_exists('owner@example.org'));
    same($owner, let_in('owner@example.org', 'local-secret')->ID);
    refused('owner@example.org', 'borrower-secret', 'incorrect_password');
    let_in('borrower', 'borrower-secret');
});

test('an account of one directory name is not for another', function () {
    directory();
    $id = let_in('alice', 'alice-secret')->ID;
    $GLOBALS['meta'][$id]['_opportune_directory'] = 'alicia';
    refused('alice', 'alice-secret', 'incorrect_password');
    unset($GLOBALS['meta'][$id]['_opportune_directory']);
    refused('alice', 'alice-secret', 'incorrect_password');
});

test("a directory user's local password opens nothing", function () {
    directory();
    $id = let_in('alice', 'alice-secret')->ID;
    $GLOBALS['users'][$id]->user_pass = md5('local-secret');
    refused('alice', 'local-secret', 'incorrect_password');
    $local = local_user('admin', 'local-secret', 'admin@example.org');
    same([false, true], [apply_filters('allow_password_reset', true, $id), apply_filters('allow_password_reset', true, $local)]);
    $users = [get_user_by('id', $id), get_user_by('id', $local)];
    foreach (['show_password_fields', 'wp_is_application_passwords_available_for_user'] as $hook) {
        same([false, true], array_map(static fn (WP_User $user): bool => apply_filters($hook, true, $user), $users));
    }
    same(true, apply_filters('check_password', true, 'x', 'y', ''));
});

test('a plugin that refuses an account is heard', function () {
    directory();
    $no = static fn (mixed $user): WP_Error => new WP_Error('not_today');
    add_filter('wp_authenticate_user', $no);
    $user = login('alice', 'alice-secret');
    remove_filter('wp_authenticate_user', $no);
    same('not_today', $user->get_error_code());
    $locked = static fn (mixed $user): WP_Error => new WP_Error('too_many_retries');
    add_filter('authenticate', $locked, 22);
    $user = login('guest', 'guest-secret');
    remove_filter('authenticate', $locked, 22);
    same('too_many_retries', $user->get_error_code());
});

$distrust = [
    'an expired certificate' => ['EXPIRED', 'CERTIFICATES', 'certificate verify failed'],
    'the certificate of another host' => ['MISNAMED', 'CERTIFICATES', 'did not match expected'],
    'the certificate of an unknown authority' => ['GOOD', 'OTHER_CERTIFICATES', 'certificate verify failed'],
    "an authority that the system doesn't know" => ['GOOD', '', 'certificate verify failed'],
];
foreach ($distrust as $what => [$server, $trusted, $word]) {
    test("$what is no directory to talk to", function () use ($server, $trusted, $word) {
        foreach (['tls' => 'TLS', 'starttls' => 'PLAIN'] as $tls => $port) {
            directory([
                'LDAP_TLS' => $tls,
                'LDAP_PORT' => getenv("{$port}_$server"),
                'LDAP_CERTIFICATES' => $trusted === '' ? '' : getenv($trusted),
            ]);
            $before = count(log_lines());
            refused('alice', 'alice-secret');
            same($before + 1, count(log_lines()));
            logged($word);
        }
    });
}

test('settings that mean nothing stop the directory part alone', function () {
    $wrong = [
        ['LDAP_TLS' => 'ssl'], ['LDAP_TLS' => ''], ['LDAP_PORT' => '0'], ['LDAP_PORT' => 'x'], ['LDAP_PORT' => '70000'],
        ['LDAP_HOST' => 'a/b'], ['LDAP_HOST' => 'user@host'], ['LDAP_HOST' => 'unix:///tmp/x'], ['LDAP_CERTIFICATES' => 'nonsense'],
        ['LDAP_CERTIFICATES' => "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], ['LDAP_BIND_PASSWORD' => ''],
        ['LDAP_BIND_PASSWORD' => 'wrong'], ['LDAP_BASE_DN' => '', 'LDAP_USERS_DN' => ''], ['LDAP_USERS_DN' => 'ou=nowhere,dc=example,dc=org'],
        ['LDAP_UID_ATTRIBUTE' => 'uid=*)(x'], ['LDAP_USERS_DN' => 'no name'],
    ];
    foreach ($wrong as $variables) {
        directory($variables);
        $before = count(log_lines());
        refused('alice', 'alice-secret');
        check(count(log_lines()) > $before, 'a word about ' . json_encode($variables));
    }
    local_user('admin', 'local-secret', 'admin@example.org');
    let_in('admin', 'local-secret');
});

test('while the directory is down local users log in', function () {
    $server = stream_socket_server('tcp://127.0.0.1:0');
    $port = substr(strrchr(stream_socket_get_name($server, false), ':'), 1);
    fclose($server);
    directory(['LDAP_PORT' => $port]);
    local_user('admin', 'local-secret', 'admin@example.org');
    let_in('admin', 'local-secret');
    refused('alice', 'alice-secret');
    logged('no connection');
});

foreach (['none', 'tls'] as $tls) {
    test("a server that never answers costs five seconds, by tls=$tls", function () use ($tls) {
        directory(['LDAP_PORT' => fake('silent'), 'LDAP_TLS' => $tls]);
        local_user('admin', 'local-secret', 'admin@example.org');
        $started = hrtime(true);
        let_in('admin', 'local-secret');
        check(hrtime(true) - $started < 0.5e9, 'no wait for a local user');
        refused('alice', 'alice-secret');
        $seconds = (hrtime(true) - $started) / 1e9;
        check($seconds > 4.5 && $seconds < 5.6, "five seconds, found $seconds");
        logged('no answer in time');
    });
}

test('a server that never comes to an end costs five seconds', function () {
    directory(['LDAP_PORT' => fake('trickle'), 'LDAP_TLS' => 'none']);
    $started = hrtime(true);
    refused('alice', 'alice-secret');
    check(hrtime(true) - $started < 5.6e9, 'five seconds');
    logged('no answer in time');
});

$misbehaviour = [
    'garbage' => 'does not speak LDAP', 'hangup' => 'closed the connection', 'huge' => 'too long', 'indefinite' => 'malformed',
    'flood' => 'too long', 'stranger' => 'another question', 'leave' => 'taken leave', 'eager' => 'out of turn', 'nameless' => 'proves nothing',
];
foreach ($misbehaviour as $mode => $word) {
    test("a server that misbehaves gets nobody in: $mode", function () use ($mode, $word) {
        directory(['LDAP_PORT' => fake($mode), 'LDAP_TLS' => 'none']);
        $started = hrtime(true);
        refused('x', 'alice-secret');
        logged($word);
        check(hrtime(true) - $started < 2e9, 'an end at once');
    });
}

test('STARTTLS is all or nothing', function () {
    foreach (['injection' => 'in the clear', 'no-starttls' => 'refused with code 52'] as $mode => $word) {
        directory(['LDAP_PORT' => fake($mode), 'LDAP_TLS' => 'starttls']);
        refused('alice', 'alice-secret');
        logged($word);
    }
});

// === mail

function mailer(): PHPMailer
{
    $mailer = new PHPMailer(true);
    $mailer->isMail();
    do_action('phpmailer_init', $mailer);
    return $mailer;
}

foreach (['none' => ['', 25, false], 'starttls' => ['tls', 587, true], 'tls' => ['ssl', 465, true]] as $tls => [$secure, $port, $auto]) {
    test("the mailer is set for tls=$tls", function () use ($tls, $secure, $port, $auto) {
        set(['MAIL_HOST' => 'mail.example.org', 'MAIL_TLS' => $tls, 'MAIL_USERNAME' => 'blog', 'MAIL_PASSWORD' => 'mail-password']);
        $mailer = mailer();
        same(
            ['smtp', 'mail.example.org', $port, $secure, $auto, true, 'blog', 'mail-password'],
            [$mailer->Mailer, $mailer->Host, $mailer->Port, $mailer->SMTPSecure, $mailer->SMTPAutoTLS, $mailer->SMTPAuth, $mailer->Username, $mailer->Password]
        );
        set(['MAIL_PORT' => '2525', 'MAIL_USERNAME' => '']);
        $mailer = mailer();
        same([2525, false, '', ''], [$mailer->Port, $mailer->SMTPAuth, $mailer->Username, $mailer->Password]);
    });
}

test('mail settings that mean nothing leave the mailer alone', function () {
    foreach ([['MAIL_TLS' => 'ssl'], ['MAIL_TLS' => ''], ['MAIL_PORT' => 'x'], ['MAIL_HOST' => 'a;b'], ['MAIL_HOST' => 'ssl://a']] as $variables) {
        set($variables + ['MAIL_HOST' => 'mail.example.org', 'MAIL_TLS' => 'tls', 'MAIL_PORT' => '25']);
        same('mail', mailer()->Mailer);
        check(log_lines() !== [], 'a word about it');
    }
});

test('certificates for the mail server are trusted while mail is sent', function () {
    set(['MAIL_HOST' => 'mail.example.org', 'MAIL_TLS' => 'tls', 'MAIL_CERTIFICATES' => getenv('CERTIFICATES')]);
    same(getenv('CERTIFICATES'), file_get_contents(mailer()->SMTPOptions['ssl']['cafile']));
});

test("a sender that somebody has chosen stays", function () {
    set(['MAIL_FROM' => 'blog@example.org', 'MAIL_FROM_NAME' => "The Blog"]);
    same('blog@example.org', apply_filters('wp_mail_from', 'wordpress@example.org'));
    same('shop@example.org', apply_filters('wp_mail_from', 'shop@example.org'));
    same('The Blog', apply_filters('wp_mail_from_name', 'WordPress'));
    same('Shop', apply_filters('wp_mail_from_name', 'Shop'));
    set(['MAIL_FROM' => "blog@example.org\r\nBcc: all@example.org", 'MAIL_FROM_NAME' => '']);
    same('wordpress@example.org', apply_filters('wp_mail_from', 'wordpress@example.org'));
    same('WordPress', apply_filters('wp_mail_from_name', 'WordPress'));
});

// === analytics

function head(array $variables, string $page = 'front'): string
{
    set($variables + ['ANALYTICS_PROVIDER' => 'matomo', 'ANALYTICS_URL' => 'https://stats.example.org/', 'ANALYTICS_SITE_ID' => '7']);
    set(array_diff_key(['ANALYTICS_SCRIPT' => '', 'ANALYTICS_ENDPOINT' => ''], $variables));
    $GLOBALS['page'] = $page;
    ob_start();
    do_action('wp_head');
    return ob_get_clean();
}

test("Matomo's tracker is in the head", function () {
    $expected = '<script>' . "\n" . 'var _paq = window._paq = window._paq || []; _paq.push(...[["trackPageView"],["enableLinkTracking"],'
        . '["setTrackerUrl","https:\/\/stats.example.org\/matomo.php"],["setSiteId","7"]]);' . "\n</script>\n"
        . '<script src="https://stats.example.org/matomo.js" async></script>' . "\n";
    same($expected, head([]));
    same($expected, head(['ANALYTICS_URL' => 'https://stats.example.org']));
    $moved = head(['ANALYTICS_SCRIPT' => 'https://cdn.example.org/m.js', 'ANALYTICS_ENDPOINT' => 'https://stats.example.org:8443/js/']);
    check(str_contains($moved, 'src="https://cdn.example.org/m.js"') && str_contains($moved, '8443\/js\/'), 'the set addresses');
});

test('the other trackers are in the head', function () {
    same(
        '<script src="https://stats.example.org/js/script.js" defer data-domain="example.org" data-api="https://stats.example.org/api/event"></script>' . "\n",
        head(['ANALYTICS_PROVIDER' => 'plausible', 'ANALYTICS_SITE_ID' => 'example.org'])
    );
    same(
        '<script src="https://stats.example.org/script.js" defer data-website-id="7"></script>' . "\n",
        head(['ANALYTICS_PROVIDER' => 'umami'])
    );
    same(
        '<script src="https://stats.example.org/count.js" async data-goatcounter="https://stats.example.org/count"></script>' . "\n",
        head(['ANALYTICS_PROVIDER' => 'goatcounter', 'ANALYTICS_SITE_ID' => ''])
    );
});

test('no tracker in the dashboard, feeds and previews', function () {
    foreach (['admin', 'feed', 'preview'] as $page) {
        same('', head([], $page));
    }
});

test('no tracker from an unknown product or without a site', function () {
    same('', head(['ANALYTICS_PROVIDER' => 'ackee']));
    same('', head(['ANALYTICS_PROVIDER' => 'Matomo']));
    same('', head(['ANALYTICS_SITE_ID' => '']));
    same('', head(['ANALYTICS_URL' => '']));
});

test('an address that is not plain https is refused', function () {
    $urls = [
        'http://stats.example.org/', '//stats.example.org/', 'javascript:alert(1)', 'data:text/javascript,alert(1)', 'https://', 'https:///x',
        'https://user:pass@stats.example.org/', 'https://stats.example.org/"onload="x', "https://stats.example.org/'", 'https://a b/',
        'https://stats.example.org/</script>', "https://stats.example.org/\nx", 'https://stats.example.org\\@evil/', ' https://stats.example.org/',
        'https://stats.example.org/#x', "https://stats.example.org/\u{202e}", 'https://stats.example.org:x/',
    ];
    foreach ($urls as $url) {
        foreach (['ANALYTICS_URL', 'ANALYTICS_SCRIPT', 'ANALYTICS_ENDPOINT'] as $name) {
            foreach (['matomo', 'plausible', 'umami', 'goatcounter'] as $provider) {
                same('', head([$name => $url, 'ANALYTICS_PROVIDER' => $provider]));
            }
        }
    }
});

test('a hostile site can not leave its string', function () {
    foreach (['</script><script>alert(1)</script>', '"]);alert(1);//', "']);alert(1)", '<!--<script>', '" onload="alert(1)', "\u{2028}", '&quot;', '\\'] as $site) {
        $matomo = head(['ANALYTICS_SITE_ID' => $site]);
        same(2, preg_match_all('~<script~', $matomo));
        same(2, preg_match_all('~</script>~', $matomo));
        check(!str_contains($matomo, '<!--'), 'no comment');
        same(1, preg_match('~push\(\.\.\.(\[.*\])\);\n~', $matomo, $match));
        same($site, json_decode($match[1], true)[3][1]);
        check(preg_match("~[<>&'\u{2028}]~u", $match[1]) === 0, 'no character that HTML or old JavaScript knows');
        foreach (['plausible', 'umami'] as $provider) {
            $tag = head(['ANALYTICS_SITE_ID' => $site, 'ANALYTICS_PROVIDER' => $provider]);
            same(1, preg_match('~^<script( [a-z-]+(="[^"<>]*")?)+></script>\n$~D', $tag));
        }
    }
    same('', head(['ANALYTICS_SITE_ID' => "\xff"]));
});

$is_over = true;
