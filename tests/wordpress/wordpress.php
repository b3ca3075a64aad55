<?php

/**
 * As much of WordPress as the plugin touches, in memory: hooks, users, the core's own login checks, script tags.
 *
 * Names, arguments, priorities and results are those of WordPress 6.1's source; what it slashes is slashed here too.
 */

declare(strict_types=1);

define('ABSPATH', __DIR__ . '/');

// === hooks

$GLOBALS['hooks'] = [];

function add_filter(string $hook, callable $callback, int $priority = 10, int $accepted = 1): bool
{
    $GLOBALS['hooks'][$hook][$priority][] = [$callback, $accepted];
    return true;
}

function add_action(string $hook, callable $callback, int $priority = 10, int $accepted = 1): bool
{
    return add_filter($hook, $callback, $priority, $accepted);
}

function remove_filter(string $hook, callable $callback, int $priority = 10): bool
{
    $entries = &$GLOBALS['hooks'][$hook][$priority];
    $entries = array_filter($entries ?? [], static fn (array $entry): bool => $entry[0] !== $callback);
    return true;
}

function apply_filters(string $hook, mixed $value, mixed ...$more): mixed
{
    $priorities = $GLOBALS['hooks'][$hook] ?? [];
    ksort($priorities);
    foreach ($priorities as $entries) {
        foreach ($entries as [$callback, $accepted]) {
            $value = $callback(...array_slice([$value, ...$more], 0, $accepted));
        }
    }
    return $value;
}

function do_action(string $hook, mixed ...$arguments): void
{
    apply_filters($hook, ...($arguments ?: ['']));
}

// === errors, slashes, texts

final class WP_Error
{
    public function __construct(private string $code = '', public string $message = '')
    {
    }

    public function get_error_code(): string
    {
        return $this->code;
    }

    public function get_error_codes(): array
    {
        return $this->code === '' ? [] : [$this->code];
    }
}

function is_wp_error(mixed $thing): bool
{
    return $thing instanceof WP_Error;
}

function wp_slash(mixed $value): mixed
{
    return is_array($value) ? array_map('wp_slash', $value) : (is_string($value) ? addslashes($value) : $value);
}

function wp_unslash(mixed $value): mixed
{
    return is_array($value) ? array_map('wp_unslash', $value) : (is_string($value) ? stripslashes($value) : $value);
}

function is_email(string $email): string|false
{
    return preg_match('/^[\w.!#$%&\'*+\/=?^`{|}~-]+@[a-z0-9-]+(\.[a-z0-9-]+)+$/iD', $email) ? $email : false;
}

if (!function_exists('mb_substr')) { // As WordPress has it where PHP has not.
    function mb_substr(string $text, int $start, ?int $length = null): string
    {
        return implode('', array_slice(preg_split('//u', $text, -1, PREG_SPLIT_NO_EMPTY), $start, $length));
    }
}

function sanitize_text_field(string $text): string
{
    return trim((string) preg_replace('/\s+/', ' ', strip_tags($text)));
}

function sanitize_user(string $name, bool $strict = false): string
{
    $name = preg_replace(['|%([a-fA-F0-9][a-fA-F0-9])|', '/&.+?;/'], '', trim(strip_tags($name)));
    $name = $strict ? preg_replace('|[^a-z0-9 _.\-@]|i', '', $name) : $name;
    return trim((string) preg_replace('|\s+|', ' ', $name));
}

function esc_attr(string $text): string
{
    return htmlspecialchars($text, ENT_QUOTES, 'UTF-8', false);
}

// === users

final class WP_User
{
    public int $ID = 0;
    public string $user_login = '';
    public string $user_pass = '';
    public string $user_email = '';
    public string $display_name = '';
    public array $roles = [];
}

function forget_all_users(): void
{
    $GLOBALS['users'] = $GLOBALS['meta'] = $GLOBALS['mails'] = [];
}

function get_user_by(string $field, mixed $value): WP_User|false
{
    $property = ['login' => 'user_login', 'email' => 'user_email', 'id' => 'ID'][$field];
    foreach ($GLOBALS['users'] as $user) {
        if ((string) $value !== '' && strcasecmp((string) $user->$property, (string) $value) === 0) {
            return clone $user;
        }
    }
    return false;
}

function email_exists(string $email): int|false
{
    $user = get_user_by('email', $email);
    return $user ? $user->ID : false;
}

function get_user_meta(int $id, string $key, bool $single = false): mixed
{
    return $GLOBALS['meta'][$id][$key] ?? '';
}

function get_role(string $role): ?object
{
    return in_array($role, ['administrator', 'editor', 'author', 'contributor', 'subscriber'], true) ? (object) [] : null;
}

function wp_insert_user(array $data): int|WP_Error
{
    $login = trim(sanitize_user($data['user_login'], true));
    if ($login === '' || strlen($login) > 60) {
        return new WP_Error('empty_user_login');
    }
    if (get_user_by('login', $login)) {
        return new WP_Error('existing_user_login');
    }
    if (email_exists($data['user_email'] ?? '')) {
        return new WP_Error('existing_user_email');
    }
    $user = new WP_User();
    $user->ID = count($GLOBALS['users']) + 1;
    $user->user_login = $login;
    $user->user_pass = md5($data['user_pass']);
    $user->user_email = wp_unslash($data['user_email'] ?? '');
    $user->display_name = wp_unslash(($data['display_name'] ?? '') ?: $login);
    $user->roles = [$data['role'] ?? 'subscriber'];
    $GLOBALS['users'][$user->ID] = $user;
    $GLOBALS['meta'][$user->ID] = wp_unslash($data['meta_input'] ?? []);
    return $user->ID;
}

function wp_update_user(array $data): int|WP_Error
{
    $user = $GLOBALS['users'][$data['ID']];
    $data = wp_unslash($data);
    if (isset($data['user_email']) && apply_filters('send_email_change_email', true, [], $data)) {
        $GLOBALS['mails'][] = $user->user_email;
    }
    $user->user_email = $data['user_email'] ?? $user->user_email;
    $user->display_name = $data['display_name'] ?? $user->display_name;
    return $user->ID;
}

// === logging in

function wp_check_password(string $password, string $hash, string|int $user_id = ''): bool
{
    return apply_filters('check_password', hash_equals($hash, md5($password)), $password, $hash, $user_id);
}

function check_one(mixed $input, WP_User|false $user, string $password, string $unknown): WP_User|WP_Error
{
    if (!$user) {
        return new WP_Error($unknown);
    }
    $user = apply_filters('wp_authenticate_user', $user, $password);
    if (is_wp_error($user)) {
        return $user;
    }
    return wp_check_password($password, $user->user_pass, $user->ID) ? $user : new WP_Error('incorrect_password');
}

function wp_authenticate_username_password(mixed $user, string $name, string $password): mixed
{
    if ($user instanceof WP_User) {
        return $user;
    }
    if (empty($name) || empty($password)) {
        return is_wp_error($user) ? $user : new WP_Error(empty($name) ? 'empty_username' : 'empty_password');
    }
    return check_one($user, get_user_by('login', $name), $password, 'invalid_username');
}

function wp_authenticate_email_password(mixed $user, string $email, string $password): mixed
{
    if ($user instanceof WP_User || empty($email) || empty($password) || !is_email($email)) {
        return $user;
    }
    return check_one($user, get_user_by('email', $email), $password, 'invalid_email');
}

add_filter('authenticate', 'wp_authenticate_username_password', 20, 3);
add_filter('authenticate', 'wp_authenticate_email_password', 20, 3);

function wp_authenticate(string $name, string $password): WP_User|WP_Error
{
    $user = apply_filters('authenticate', null, sanitize_user($name), trim($password));
    return $user ?? new WP_Error('authentication_failed');
}

// === pages and mail

$GLOBALS['page'] = 'front';

function is_admin(): bool
{
    return $GLOBALS['page'] === 'admin';
}

function is_feed(): bool
{
    return $GLOBALS['page'] === 'feed';
}

function is_preview(): bool
{
    return $GLOBALS['page'] === 'preview';
}

function is_customize_preview(): bool
{
    return false;
}

function wp_print_script_tag(array $attributes): void
{
    $text = '';
    foreach ($attributes as $name => $value) {
        $text .= $value === true ? ' ' . esc_attr($name) : sprintf(' %s="%s"', esc_attr($name), esc_attr($value));
    }
    echo "<script$text></script>\n";
}

function wp_print_inline_script_tag(string $javascript, array $attributes = []): void
{
    echo "<script>\n", trim($javascript, "\n\r "), "\n</script>\n";
}

function network_home_url(): string
{
    return 'https://www.example.org/blog';
}

function wp_parse_url(string $url, int $component): mixed
{
    return parse_url($url, $component);
}
