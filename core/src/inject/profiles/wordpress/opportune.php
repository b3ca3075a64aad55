<?php
/**
 * Plugin Name: Opportune
 * Description: Mail, analytics and directory login by the services of the cluster that OPPORTUNE_* variables name.
 * Version: 1.0.0
 * Requires at least: 5.9
 * Requires PHP: 8.1
 *
 * It has no options and stores nothing but the users that the directory lets in. Each part is on only while its
 * variables are there. The order: hooks, settings, mail, analytics, directory users, LDAP connection, filters, BER.
 */

declare(strict_types=1);

namespace Opportune;

defined('ABSPATH') || exit;

if (setting('MAIL_HOST') !== '') {
    // Early: what an SMTP plugin of the site's own sets up afterwards wins.
    add_action('phpmailer_init', __NAMESPACE__ . '\use_mail_server', 1);
    // Late: only a sender that nobody else has chosen is replaced.
    add_filter('wp_mail_from', __NAMESPACE__ . '\sender_address', 1000);
    add_filter('wp_mail_from_name', __NAMESPACE__ . '\sender_name', 1000);
}
if (setting('ANALYTICS_PROVIDER') !== '') {
    // Themes call it on a site's pages; the dashboard, the login page and feeds have heads of their own.
    add_action('wp_head', __NAMESPACE__ . '\print_tracker');
}
if (setting('LDAP_HOST') !== '') {
    // After WordPress's own checks of name, address and application password (20), before its spam check (99).
    add_filter('authenticate', __NAMESPACE__ . '\authenticate', 25, 3);
    // Only the directory lets its users in: a password kept here would outlive their account there.
    add_filter('check_password', __NAMESPACE__ . '\check_local_password', 1000, 4);
    add_filter('allow_password_reset', __NAMESPACE__ . '\unless_from_directory', 1000, 2);
    add_filter('show_password_fields', __NAMESPACE__ . '\unless_from_directory', 1000, 2);
    add_filter('wp_is_application_passwords_available_for_user', __NAMESPACE__ . '\unless_from_directory', 1000, 2);
}

// === settings

/** A setting's value, '' where there is none. */
function setting(string $name): string
{
    return (string) getenv("OPPORTUNE_$name");
}

/** The host of a service as addresses take it; IPv6 in brackets. Throws on what isn't a host. */
function host(string $intent): string
{
    $host = setting("{$intent}_HOST");
    if (preg_match('/^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?\.?$/iD', $host)) {
        return $host;
    }
    if (filter_var($host, FILTER_VALIDATE_IP, FILTER_FLAG_IPV6)) {
        return "[$host]";
    }
    throw new Failure("OPPORTUNE_{$intent}_HOST is no host name");
}

/** The port of a service, or the usual one. */
function port(string $intent, int $usual): int
{
    $range = ['options' => ['min_range' => 1, 'max_range' => 65535]];
    $port = filter_var(setting("{$intent}_PORT") ?: $usual, FILTER_VALIDATE_INT, $range);
    return $port ?: throw new Failure("OPPORTUNE_{$intent}_PORT is no port");
}

/** One of none, starttls and tls. Nothing is guessed: a wrong guess would send passwords in the clear. */
function tls(string $intent): string
{
    $tls = setting("{$intent}_TLS");
    return in_array($tls, ['none', 'starttls', 'tls'], true)
        ? $tls
        : throw new Failure("OPPORTUNE_{$intent}_TLS must be none, starttls or tls");
}

/**
 * The certificates to trust instead of the system's, null where none are given: as a file, for PHP takes them from
 * nothing else, that vanishes when its handle is closed.
 *
 * @return resource|null
 */
function certificate_file(string $intent)
{
    $pem = setting("{$intent}_CERTIFICATES");
    if ($pem === '') {
        return null;
    }
    if (!str_contains($pem, '-----BEGIN CERTIFICATE-----')) {
        throw new Failure("OPPORTUNE_{$intent}_CERTIFICATES has no certificate in PEM");
    }
    [$file] = quietly(static fn () => tmpfile());
    if ($file === false || fwrite($file, $pem) !== strlen($pem)) {
        throw new Failure('no temporary file for the certificates to trust');
    }
    return $file;
}

/** Says in one line of the error log what somebody should look at; never with a password in it. */
function complain(string $part, string $what): void
{
    error_log("opportune: $part: " . substr((string) preg_replace('/[^\x20-\x7e]+/', ' ', $what), 0, 300));
}

/**
 * Runs something whose warnings shall not reach a visitor's page; returns its result and the warnings.
 *
 * @return array{mixed, string}
 */
function quietly(callable $do): array
{
    $warnings = [];
    set_error_handler(static function (int $level, string $message) use (&$warnings): bool {
        $warnings[] = $message;
        return true;
    });
    try {
        return [$do(), implode('; ', $warnings)];
    } finally {
        restore_error_handler();
    }
}

/** What stops a part, in words for the log. */
final class Failure extends \RuntimeException
{
}

// === mail

/** Hands the mailer that WordPress has made ready to the mail server. */
function use_mail_server(mixed $mailer): void
{
    static $trusted = null; // Kept open: the file is read when the mail is sent.
    if (!$mailer instanceof \PHPMailer\PHPMailer\PHPMailer) {
        return; // A plugin has put a mailer of its own there.
    }
    try {
        $tls = tls('MAIL');
        $host = host('MAIL');
        $port = port('MAIL', ['none' => 25, 'starttls' => 587, 'tls' => 465][$tls]);
        $trusted ??= certificate_file('MAIL');
    } catch (Failure $failure) {
        complain('mail', $failure->getMessage());
        return;
    }
    $mailer->isSMTP();
    $mailer->Host = $host;
    $mailer->Port = $port;
    $mailer->SMTPSecure = ['none' => '', 'starttls' => 'tls', 'tls' => 'ssl'][$tls];
    $mailer->SMTPAutoTLS = $tls !== 'none';
    $mailer->SMTPAuth = setting('MAIL_USERNAME') !== '';
    $mailer->Username = setting('MAIL_USERNAME');
    $mailer->Password = $mailer->SMTPAuth ? setting('MAIL_PASSWORD') : '';
    $mailer->Timeout = 30; // Its own 300 s would hold a visitor's page as long.
    if ($trusted !== null) {
        $mailer->SMTPOptions = ['ssl' => ['cafile' => stream_get_meta_data($trusted)['uri']]];
    }
}

/** The sender's address, in place of WordPress's wordpress@host. */
function sender_address(mixed $address): mixed
{
    $host = (string) wp_parse_url(network_home_url(), PHP_URL_HOST);
    $default = 'wordpress@' . (str_starts_with($host, 'www.') ? substr($host, 4) : $host);
    $own = setting('MAIL_FROM');
    return $address === $default && is_email($own) ? $own : $address;
}

/** The sender's name, in place of WordPress's 'WordPress'. */
function sender_name(mixed $name): mixed
{
    return $name === 'WordPress' ? (setting('MAIL_FROM_NAME') ?: $name) : $name;
}

// === analytics

/** Where each product keeps its script and its endpoint, below its own address. */
const TRACKERS = [
    'matomo' => ['SCRIPT' => 'matomo.js', 'ENDPOINT' => 'matomo.php'],
    'plausible' => ['SCRIPT' => 'js/script.js', 'ENDPOINT' => 'api/event'],
    'umami' => ['SCRIPT' => 'script.js', 'ENDPOINT' => 'api/send'],
    'goatcounter' => ['SCRIPT' => 'count.js', 'ENDPOINT' => 'count'],
];

/** Prints the tracker into a page's head, by WordPress's own functions: they escape, and plugins add nonces there. */
function print_tracker(): void
{
    $provider = setting('ANALYTICS_PROVIDER');
    if (!isset(TRACKERS[$provider]) || is_admin() || is_feed() || is_preview() || is_customize_preview()) {
        return;
    }
    $script = tracker_url($provider, 'SCRIPT');
    $endpoint = tracker_url($provider, 'ENDPOINT');
    $site = setting('ANALYTICS_SITE_ID');
    if ($script === null || $endpoint === null || ($site === '' && $provider !== 'goatcounter')) {
        return;
    }
    if ($provider === 'matomo') {
        $calls = [['trackPageView'], ['enableLinkTracking'], ['setTrackerUrl', $endpoint], ['setSiteId', $site]];
        // No < > & ' or " of a value is left in it: nothing can close the string, the script or a comment.
        $json = json_encode($calls, JSON_HEX_TAG | JSON_HEX_AMP | JSON_HEX_APOS | JSON_HEX_QUOT);
        if ($json === false) {
            return;
        }
        wp_print_inline_script_tag("var _paq = window._paq = window._paq || []; _paq.push(...$json);");
    }
    wp_print_script_tag(['src' => $script] + match ($provider) {
        'matomo' => ['async' => true],
        'plausible' => ['defer' => true, 'data-domain' => $site, 'data-api' => $endpoint],
        'umami' => ['defer' => true, 'data-website-id' => $site], // Its script knows its own endpoint.
        'goatcounter' => ['async' => true, 'data-goatcounter' => $endpoint],
    });
}

/** An address of the analytics, as it is set or below their base; null unless it is a plain https one. */
function tracker_url(string $provider, string $name): ?string
{
    $url = setting("ANALYTICS_$name") ?: rtrim(setting('ANALYTICS_URL'), '/') . '/' . TRACKERS[$provider][$name];
    $https = '~^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9_.,/:@%+=&?\~-]*)?$~iD';
    return preg_match($https, $url) ? $url : null;
}

// === directory users

/** The user meta that marks an account as the directory's and holds its name there. Without it the account is local. */
const MARK = '_opportune_directory';

/**
 * Filter `authenticate`: lets in whom the directory knows by this password, beside the local users and never over them.
 *
 * Whatever goes wrong, WordPress's own answer stays.
 */
function authenticate(mixed $user, mixed $login, mixed $password): mixed
{
    if (!is_open($user) || !is_string($login) || !is_string($password)) {
        return $user;
    }
    $typed = as_typed($password);
    // 100 characters is the longest address that WordPress can store. A NUL would end the password for some servers.
    $is_text = preg_match('/^[^\x00-\x1f\x7f]{1,100}$/uD', $login) && preg_match('/^[^\x00]{1,4096}$/uDs', $typed);
    $account = $is_text ? get_user_by('login', $login) ?: get_user_by('email', $login) : false;
    if (!$is_text || ($account && !is_from_directory($account->ID))) {
        return $user; // A local user's password is not for the directory to see.
    }
    $connection = null;
    try {
        $tls = tls('LDAP');
        $port = port('LDAP', $tls === 'tls' ? 636 : 389);
        $connection = new Connection(host('LDAP'), $port, $tls, certificate_file('LDAP'));
        $person = find_person($connection, $login);
        $account = $person && $connection->bind($person['dn'], $typed) ? account_of($person) : null;
    } catch (\Throwable $failure) {
        complain('directory', $failure->getMessage());
        $account = null;
    } finally {
        $connection?->close();
    }
    // Plugins refuse accounts by this filter; one that says no is heard here as well.
    return $account ? apply_filters('wp_authenticate_user', $account, $password) : $user;
}

/** Whether nobody has decided yet: WordPress knows no such user or password, and no plugin has said no to it. */
function is_open(mixed $user): bool
{
    $ordinary = [
        'invalid_username', 'invalid_email', 'incorrect_password',
        'application_passwords_disabled', 'application_passwords_disabled_for_user',
    ];
    return $user === null || ($user instanceof \WP_Error && !array_diff($user->get_error_codes(), $ordinary));
}

/** The password without the slashes that WordPress adds to what a form posts; other ways in add none. */
function as_typed(string $password): string
{
    $is_posted = false;
    $posted = $_POST;
    array_walk_recursive($posted, static function (mixed $value) use ($password, &$is_posted): void {
        $is_posted = $is_posted || (is_string($value) && trim($value) === $password);
    });
    return $is_posted ? wp_unslash($password) : $password;
}

/**
 * The one directory entry that goes by this login and may log in; null if there is none, or more than one.
 *
 * @return array{dn: string, uid: string, mail: string, name: string}|null
 */
function find_person(Connection $connection, string $login): ?array
{
    $uid = attribute('UID', 'uid');
    $mail = attribute('MAIL', 'mail');
    $name = attribute('NAME', 'cn');
    $filters = [Filter::equals($uid, $login)];
    if (str_contains($login, '@')) {
        $filters = [Filter::any($filters[0], Filter::equals($mail, $login))];
    }
    if (setting('LDAP_USER_OBJECT_CLASS') !== '') {
        $filters[] = Filter::equals('objectClass', setting('LDAP_USER_OBJECT_CLASS'));
    }
    if (setting('LDAP_USER_FILTER') !== '') {
        $filters[] = Filter::parse(setting('LDAP_USER_FILTER'));
    }
    $base = setting('LDAP_USERS_DN') ?: setting('LDAP_BASE_DN');
    if ($base === '') {
        throw new Failure('OPPORTUNE_LDAP_BASE_DN is not set');
    }
    if (setting('LDAP_BIND_DN') !== '' && !$connection->bind(setting('LDAP_BIND_DN'), setting('LDAP_BIND_PASSWORD'))) {
        throw new Failure('the directory refuses the bind account');
    }
    $wanted = array_values(array_unique([$uid, $mail, $name, ...SIGNS_OF_A_DISABLED_ACCOUNT]));
    $entries = $connection->search($base, Filter::all(...$filters), $wanted);
    if (count($entries) > 1) {
        throw new Failure('more than one entry goes by the same login');
    }
    if ($entries === [] || is_disabled($entries[0])) {
        return null;
    }
    $value = static fn (string $attribute): string => $entries[0]['attributes'][strtolower($attribute)][0] ?? '';
    $uids = $entries[0]['attributes'][strtolower($uid)] ?? [];
    // WordPress drops characters from login names: only a name that it keeps as it is stands for one person.
    if (count($uids) !== 1 || $uids[0] === '' || strlen($uids[0]) > 60 || sanitize_user($uids[0], true) !== $uids[0]) {
        throw new Failure("an entry has not exactly one $uid that can be a login name");
    }
    $account = get_user_by('login', $uids[0]);
    if ($account && strcasecmp((string) get_user_meta($account->ID, MARK, true), $uids[0]) !== 0) {
        throw new Failure("$uids[0] is a local account, and stays one");
    }
    return ['dn' => $entries[0]['dn'], 'uid' => $uids[0], 'mail' => $value($mail), 'name' => $value($name)];
}

/** The directory's name of an attribute. */
function attribute(string $which, string $usual): string
{
    $attribute = setting("LDAP_{$which}_ATTRIBUTE") ?: $usual;
    return preg_match('/^' . Filter::ATTRIBUTE . '$/D', $attribute)
        ? $attribute
        : throw new Failure("OPPORTUNE_LDAP_{$which}_ATTRIBUTE is no attribute's name");
}

const SIGNS_OF_A_DISABLED_ACCOUNT = ['userAccountControl', 'nsAccountLock', 'pwdAccountLockedTime'];

/**
 * Whether an administrator of the directory has shut the account; its own refusal to bind comes on top.
 *
 * Active Directory's bit 2, 389 DS's and FreeIPA's flag, and the lock time that the password policy draft keeps for
 * "until an administrator unlocks it": another lock time may be over, which only the server knows. A loginShell of
 * nologin says nothing here: it means no shell, and people with mail and web accounts only usually have it.
 */
function is_disabled(array $entry): bool
{
    [$control, $lock, $locked_time] = array_map(
        static fn (string $sign): string => $entry['attributes'][strtolower($sign)][0] ?? '',
        SIGNS_OF_A_DISABLED_ACCOUNT
    );
    return ((int) $control & 2) !== 0 || strcasecmp($lock, 'TRUE') === 0 || $locked_time === '000001010000Z';
}

/** The local account of a person whom the directory has let in: made at the first login, refreshed at later ones. */
function account_of(array $person): \WP_User
{
    $account = get_user_by('login', $person['uid']);
    $name = mb_substr(sanitize_text_field($person['name']), 0, 250);
    $mail = strlen($person['mail']) <= 100 && is_email($person['mail']) ? $person['mail'] : '';
    $owner = $mail === '' ? false : email_exists($mail);
    if ($owner && (!$account || $owner !== $account->ID)) {
        complain('directory', "{$person['uid']} can't have its mail address here: another account has it");
        $mail = '';
    }
    $id = $account ? refresh($account, $mail, $name) : wp_insert_user([
        'user_login' => $person['uid'],
        'user_pass' => bin2hex(random_bytes(32)), // Nobody's, and check_local_password would refuse it.
        'user_email' => wp_slash($mail),
        'display_name' => wp_slash($name),
        'role' => role(),
        'meta_input' => [MARK => $person['uid']],
    ]);
    return is_wp_error($id)
        ? throw new Failure("WordPress can't keep {$person['uid']}: " . $id->get_error_code())
        : get_user_by('id', $id);
}

/** Takes over a new mail address and name, unless they are empty. */
function refresh(\WP_User $account, string $mail, string $name): int|\WP_Error
{
    $changes = array_diff_assoc(
        array_filter(['user_email' => $mail, 'display_name' => $name], static fn (string $new): bool => $new !== ''),
        ['user_email' => $account->user_email, 'display_name' => $account->display_name]
    );
    if ($changes === []) {
        return $account->ID;
    }
    $silent = static fn (): bool => false; // The address was changed in the directory: no news to its owner.
    add_filter('send_email_change_email', $silent, 1000);
    try {
        return wp_update_user(['ID' => $account->ID] + wp_slash($changes));
    } finally {
        remove_filter('send_email_change_email', $silent, 1000);
    }
}

/** The role of new users. */
function role(): string
{
    $role = setting('LDAP_ROLE') ?: 'subscriber';
    if (get_role($role) === null) {
        complain('directory', 'OPPORTUNE_LDAP_ROLE is no role of this site, subscriber it is');
        return 'subscriber';
    }
    return $role;
}

/** Whether an account is the directory's. */
function is_from_directory(int $id): bool
{
    return get_user_meta($id, MARK, true) !== '';
}

/** Filter `check_password`: no local password opens a directory user's account. */
function check_local_password(mixed $is_right, mixed $password, mixed $hash, mixed $id = ''): mixed
{
    return is_numeric($id) && (int) $id > 0 && is_from_directory((int) $id) ? false : $is_right;
}

/** Filters whose subject is a user, by id or object: false for the directory's users. */
function unless_from_directory(mixed $allowed, mixed $user = null): mixed
{
    $id = $user instanceof \WP_User ? $user->ID : (is_numeric($user) ? (int) $user : 0);
    return $id > 0 && is_from_directory($id) ? false : $allowed;
}

// === LDAP connection

/**
 * A connection to a directory server (RFC 4511), with what a login needs: bind, search, STARTTLS.
 *
 * Always this one, also where PHP has its extension ldap: the official image has not, and the extension sets the
 * trusted certificates for the whole process, follows referrals by itself and knows no deadline for a conversation
 * as a whole. Only the look-up of the host's name is out of the deadline's reach: PHP can't interrupt it.
 */
final class Connection
{
    private const CONNECT_SECONDS = 3.0;
    private const TOTAL_SECONDS = 5.0;
    private const RECEIVE_BYTES = 1 << 20;
    private const BIND = 0x60, BOUND = 0x61, UNBIND = 0x42, SEARCH = 0x63, ENTRY = 0x64, DONE = 0x65, REFERENCE = 0x73;
    private const EXTENDED = 0x77, EXTENDED_ANSWER = 0x78;
    private const SUCCESS = 0, INVALID_CREDENTIALS = 49;
    private const STARTTLS = '1.3.6.1.4.1.1466.20037';

    /** @var resource */
    private $stream;
    private float $deadline;
    private string $buffer = '';
    private int $received = 0;
    private int $message = 0;

    /** @param resource|null $trusted the certificates to trust instead of the system's */
    public function __construct(string $host, int $port, string $tls, $trusted)
    {
        $this->deadline = self::now() + self::TOTAL_SECONDS;
        $checks = ['verify_peer' => true, 'verify_peer_name' => true, 'peer_name' => trim($host, '[].')];
        if ($trusted !== null) {
            $checks['cafile'] = stream_get_meta_data($trusted)['uri'];
        }
        $context = stream_context_create(['ssl' => $checks]);
        [$stream, $warnings] = quietly(static fn () => stream_socket_client(
            "tcp://$host:$port",
            timeout: self::CONNECT_SECONDS,
            context: $context
        ));
        if ($stream === false) {
            throw new Failure("no connection: $warnings");
        }
        $this->stream = $stream;
        stream_set_blocking($stream, false);
        stream_set_read_buffer($stream, 0);
        if ($tls === 'starttls') {
            $this->start_tls();
        }
        if ($tls !== 'none') {
            $this->encrypt();
        }
    }

    /** Whether the server takes this password for this name. */
    public function bind(string $dn, #[\SensitiveParameter] string $password): bool
    {
        if ($dn === '' || $password === '') {
            // RFC 4513 5.1.2: to many servers that is a success, of nobody in particular.
            throw new Failure('a bind without a name or a password proves nothing');
        }
        $this->send(self::BIND, Ber::integer(3) . Ber::octets($dn) . Ber::octets($password, 0x80));
        $code = $this->result(self::BOUND, $this->receive());
        if ($code !== self::SUCCESS && $code !== self::INVALID_CREDENTIALS) {
            complain('directory', "a bind was refused with code $code");
        }
        return $code === self::SUCCESS;
    }

    /**
     * The entries below a base, two at most: more than one is too many already. References elsewhere are ignored.
     *
     * @param list<string> $attributes
     * @return list<array{dn: string, attributes: array<string, list<string>>}>
     */
    public function search(string $base, string $filter, array $attributes): array
    {
        $whole_subtree = Ber::enumerated(2);
        $never_follow_aliases = Ber::enumerated(0);
        $limits = Ber::integer(2) . Ber::integer((int) self::TOTAL_SECONDS);
        $with_values = Ber::boolean(false);
        $names = implode('', array_map(static fn (string $name): string => Ber::octets($name), $attributes));
        $how = $whole_subtree . $never_follow_aliases . $limits . $with_values;
        $this->send(self::SEARCH, Ber::octets($base) . $how . $filter . Ber::sequence($names));
        for ($entries = [];;) {
            [$tag, $content] = $answer = $this->receive();
            if ($tag === self::ENTRY) {
                $entries[] = self::entry($content);
            } elseif ($tag !== self::REFERENCE) {
                break;
            }
            if (count($entries) > 1) {
                return $entries;
            }
        }
        $code = $this->result(self::DONE, $answer);
        return $code === self::SUCCESS ? $entries : throw new Failure("the search was refused with code $code");
    }

    /** Takes leave. */
    public function close(): void
    {
        quietly(function (): void {
            fwrite($this->stream, Ber::sequence(Ber::integer(++$this->message) . Ber::octets('', self::UNBIND)));
            fclose($this->stream);
        });
    }

    private function start_tls(): void
    {
        $this->send(self::EXTENDED, Ber::octets(self::STARTTLS, 0x80));
        $code = $this->result(self::EXTENDED_ANSWER, $this->receive());
        if ($code !== self::SUCCESS) {
            throw new Failure("STARTTLS was refused with code $code");
        }
        if ($this->buffer !== '' || stream_get_meta_data($this->stream)['unread_bytes'] > 0) {
            throw new Failure('something came in the clear after STARTTLS'); // It would pass for encrypted.
        }
    }

    private function encrypt(): void
    {
        $methods = STREAM_CRYPTO_METHOD_TLSv1_2_CLIENT | STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT;
        do {
            [$is_done, $warnings] = quietly(fn () => stream_socket_enable_crypto($this->stream, true, $methods));
            if ($is_done === false) {
                throw new Failure('no TLS: ' . ($warnings ?: 'the server has closed the connection'));
            }
        } while ($is_done === 0 && $this->wait());
    }

    private function send(int $tag, string $content): void
    {
        $bytes = Ber::sequence(Ber::integer(++$this->message) . Ber::octets($content, $tag));
        while ($bytes !== '') {
            [$written, $warnings] = quietly(fn () => fwrite($this->stream, $bytes));
            if ($written === false || $warnings !== '') {
                throw new Failure("the connection broke: $warnings");
            }
            $bytes = substr($bytes, $written);
            if ($bytes !== '') {
                $this->wait(true);
            }
        }
    }

    /**
     * The next part of the answer to what was sent last.
     *
     * @return array{int, string} its tag and content
     */
    private function receive(): array
    {
        while (($length = Ber::length_of_message($this->buffer, self::RECEIVE_BYTES)) === null) {
            [$bytes, $warnings] = quietly(fn () => fread($this->stream, 8192));
            $this->buffer .= $bytes;
            $this->received += strlen((string) $bytes);
            if ($this->received > self::RECEIVE_BYTES) {
                throw new Failure('the answer is too long');
            }
            if ($warnings !== '' || ((string) $bytes === '' && feof($this->stream))) {
                throw new Failure("the server has closed the connection $warnings");
            }
            $this->wait(seconds: (string) $bytes === '' ? 0.5 : 0.0);
        }
        $message = (new Ber(substr($this->buffer, 0, $length)))->within(Ber::SEQUENCE);
        $this->buffer = substr($this->buffer, $length);
        $number = $message->number();
        if ($number !== $this->message) {
            throw new Failure($number === 0 ? 'the server has taken leave' : 'an answer to another question came');
        }
        return $message->any(); // Controls may follow: we have asked for none.
    }

    /**
     * The result code of an answer.
     *
     * @param array{int, string} $answer
     */
    private function result(int $expected, array $answer): int
    {
        [$tag, $content] = $answer;
        if ($tag !== $expected) {
            throw new Failure("the server speaks out of turn (tag $tag)");
        }
        $result = new Ber($content);
        $code = $result->number(Ber::ENUMERATED);
        $result->bytes(); // The matched name and a diagnostic message, for no log: servers repeat what they were sent.
        $result->bytes();
        return $code;
    }

    /** @return array{dn: string, attributes: array<string, list<string>>} */
    private static function entry(string $content): array
    {
        $entry = new Ber($content);
        $dn = $entry->bytes();
        $found = [];
        for ($attributes = $entry->within(Ber::SEQUENCE); !$attributes->is_over();) {
            $attribute = $attributes->within(Ber::SEQUENCE);
            $name = strtolower($attribute->bytes());
            for ($values = $attribute->within(Ber::SET); !$values->is_over();) {
                $found[$name][] = $values->bytes();
            }
        }
        return ['dn' => $dn, 'attributes' => $found];
    }

    /** Waits for the server, some time, and throws after the deadline; else it's true, for loops to end with. */
    private function wait(bool $is_for_writing = false, float $seconds = 0.1): bool
    {
        $left = $this->deadline - self::now();
        if ($left <= 0) {
            throw new Failure('no answer in time');
        }
        $read = $is_for_writing ? null : [$this->stream];
        $write = $is_for_writing ? [$this->stream] : null;
        $except = null;
        quietly(static fn () => stream_select($read, $write, $except, 0, (int) (min($left, $seconds) * 1e6)));
        return true;
    }

    private static function now(): float
    {
        return hrtime(true) / 1e9;
    }
}

// === LDAP filters

/**
 * Search filters (RFC 4511 4.5.1.7), built as BER: a value stands in a string of its own, behind its length, and can't
 * become syntax.
 */
final class Filter
{
    public const ATTRIBUTE = '(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)';
    private const DEPTH = 20;

    public static function all(string ...$filters): string
    {
        return Ber::octets(implode('', $filters), 0xa0);
    }

    public static function any(string ...$filters): string
    {
        return Ber::octets(implode('', $filters), 0xa1);
    }

    public static function equals(string $attribute, string $value, int $tag = 0xa3): string
    {
        return Ber::octets(Ber::octets($attribute) . Ber::octets($value), $tag);
    }

    public static function present(string $attribute): string
    {
        return Ber::octets($attribute, 0x87);
    }

    /** A filter as operators write it (RFC 4515), which must be right to the letter. */
    public static function parse(string $text): string
    {
        $rest = $text;
        $filter = self::parse_one($rest, 0);
        return $rest === '' ? $filter : self::refuse();
    }

    private static function parse_one(string &$rest, int $depth): string
    {
        if ($depth > self::DEPTH || !preg_match('/^\((?:([&|!])(?=\()|([^()]+)\))/', $rest, $match)) {
            self::refuse();
        }
        $rest = substr($rest, strlen($match[0]));
        if (isset($match[2])) {
            return self::parse_item($match[2]);
        }
        $filters = [];
        while (str_starts_with($rest, '(')) {
            $filters[] = self::parse_one($rest, $depth + 1);
        }
        if (!str_starts_with($rest, ')') || ($match[1] === '!' && count($filters) !== 1)) {
            self::refuse();
        }
        $rest = substr($rest, 1);
        return Ber::octets(implode('', $filters), ['&' => 0xa0, '|' => 0xa1, '!' => 0xa2][$match[1]]);
    }

    private static function parse_item(string $item): string
    {
        $name = self::ATTRIBUTE;
        if (!preg_match("/^($name(?:;[A-Za-z0-9-]+)*)?(:dn)?(?::($name))?(:=|>=|<=|~=|=)(.*)$/uDsi", $item, $match)) {
            self::refuse();
        }
        [, $attribute, $dn, $rule, $operator, $value] = $match;
        if ($operator === ':=') {
            if ($attribute === '' && $rule === '') {
                self::refuse();
            }
            return Ber::octets(
                ($rule === '' ? '' : Ber::octets($rule, 0x81))
                . ($attribute === '' ? '' : Ber::octets($attribute, 0x82))
                . Ber::octets(self::unescape($value), 0x83)
                . ($dn === '' ? '' : Ber::octets("\xff", 0x84)),
                0xa9
            );
        }
        if ($attribute === '' || $dn !== '' || $rule !== '') {
            self::refuse();
        }
        if ($operator !== '=') {
            $tag = ['>=' => 0xa5, '<=' => 0xa6, '~=' => 0xa8][$operator];
            return self::equals($attribute, self::unescape($value), $tag);
        }
        if ($value === '*') {
            return self::present($attribute);
        }
        $parts = explode('*', $value);
        return count($parts) > 1
            ? self::substrings($attribute, $parts)
            : self::equals($attribute, self::unescape($value));
    }

    /** @param list<string> $parts what stood between the asterisks; the first and the last may be empty */
    private static function substrings(string $attribute, array $parts): string
    {
        $last = count($parts) - 1;
        $substrings = '';
        foreach ($parts as $i => $part) {
            if ($part !== '') {
                $substrings .= Ber::octets(self::unescape($part), $i === 0 ? 0x80 : ($i === $last ? 0x82 : 0x81));
            } elseif ($i !== 0 && $i !== $last) {
                self::refuse();
            }
        }
        return Ber::octets(Ber::octets($attribute) . Ber::sequence($substrings), 0xa4);
    }

    private static function unescape(string $value): string
    {
        if (preg_match('/\\\\(?![0-9a-f]{2})|\*|\x00/i', $value)) {
            self::refuse();
        }
        return preg_replace_callback('/\\\\(..)/', static fn (array $match) => (string) hex2bin($match[1]), $value);
    }

    private static function refuse(): never
    {
        throw new Failure('OPPORTUNE_LDAP_USER_FILTER is no filter of RFC 4515, like (memberOf=cn=web,dc=example)');
    }
}

// === BER

/** LDAP's encoding (RFC 4511 5.1: definite lengths, tags of one byte): static functions write, an instance reads. */
final class Ber
{
    public const INTEGER = 0x02, OCTETS = 0x04, ENUMERATED = 0x0a, SEQUENCE = 0x30, SET = 0x31;

    private int $at = 0;

    public function __construct(private readonly string $bytes)
    {
    }

    public static function octets(string $content, int $tag = self::OCTETS): string
    {
        $length = strlen($content);
        $long = ltrim(pack('N', $length), "\0");
        return chr($tag) . ($length < 0x80 ? chr($length) : chr(0x80 | strlen($long)) . $long) . $content;
    }

    public static function sequence(string $content): string
    {
        return self::octets($content, self::SEQUENCE);
    }

    /** A number that isn't negative. */
    public static function integer(int $number, int $tag = self::INTEGER): string
    {
        $bytes = ltrim(pack('N', $number), "\0");
        return self::octets(($bytes === '' || ord($bytes[0]) >= 0x80 ? "\0" : '') . $bytes, $tag);
    }

    public static function enumerated(int $number): string
    {
        return self::integer($number, self::ENUMERATED);
    }

    public static function boolean(bool $is): string
    {
        return self::octets($is ? "\xff" : "\0", 0x01);
    }

    /** How long the message is that a buffer begins with; null while it isn't all there. */
    public static function length_of_message(string $buffer, int $limit): ?int
    {
        if ($buffer !== '' && ord($buffer[0]) !== self::SEQUENCE) {
            throw new Failure('the server does not speak LDAP');
        }
        if (strlen($buffer) < 2 || strlen($buffer) < 2 + (ord($buffer[1]) < 0x80 ? 0 : ord($buffer[1]) & 0x7f)) {
            return ord($buffer[1] ?? "\0") > 0x84 ? self::malformed() : null;
        }
        [$start, $length] = self::header($buffer, 0);
        if ($start + $length > $limit) {
            throw new Failure('the answer is too long');
        }
        return strlen($buffer) < $start + $length ? null : $start + $length;
    }

    /** Whether all has been read. */
    public function is_over(): bool
    {
        return $this->at === strlen($this->bytes);
    }

    /**
     * The next element.
     *
     * @return array{int, string} its tag and content
     */
    public function any(): array
    {
        [$start, $length] = self::header($this->bytes, $this->at);
        if ($length > strlen($this->bytes) - $start) {
            self::malformed();
        }
        $tag = ord($this->bytes[$this->at]);
        $this->at = $start + $length;
        return [$tag, substr($this->bytes, $start, $length)];
    }

    /** The next element, which must have this tag. */
    public function bytes(int $tag = self::OCTETS): string
    {
        [$found, $content] = $this->any();
        return $found === $tag ? $content : self::malformed();
    }

    /** A reader of what the next element holds. */
    public function within(int $tag): self
    {
        return new self($this->bytes($tag));
    }

    /** The next element as a number from 0 to 2^31 - 1, which is all that LDAP has. */
    public function number(int $tag = self::INTEGER): int
    {
        $content = $this->bytes($tag);
        if ($content === '' || strlen($content) > 4 || ord($content[0]) >= 0x80) {
            self::malformed();
        }
        return (int) hexdec(bin2hex($content));
    }

    /** @return array{int, int} where the content of the element at $at starts, and its length */
    private static function header(string $bytes, int $at): array
    {
        $left = strlen($bytes) - $at;
        if ($left < 2 || (ord($bytes[$at]) & 0x1f) === 0x1f) {
            self::malformed();
        }
        $length = ord($bytes[$at + 1]);
        if ($length < 0x80) {
            return [$at + 2, $length];
        }
        $size = $length & 0x7f;
        if ($size < 1 || $size > 4 || $left < 2 + $size) {
            self::malformed(); // Size 0 is the indefinite form, which LDAP forbids.
        }
        return [$at + 2 + $size, (int) hexdec(bin2hex(substr($bytes, $at + 2, $size)))];
    }

    private static function malformed(): never
    {
        throw new Failure("the server's answer is malformed");
    }
}
