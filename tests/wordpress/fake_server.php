<?php

/** A directory server that misbehaves in the way its argument names; prints its port, then serves until it is killed. */

declare(strict_types=1);

$mode = $argv[1];
$server = stream_socket_server('tcp://127.0.0.1:0');
echo substr((string) strrchr(stream_socket_get_name($server, false), ':'), 1), "\n";

/** One message: its number, and an operation in hex. */
$message = static function (int $number, string $operation): string {
    $content = "\x02\x01" . chr($number) . hex2bin($operation);
    return "\x30\x81" . chr(strlen($content)) . $content;
};
$bound = '61070a010004000400';
$done = '65070a010004000400';
// An entry without a name: who binds as nobody is let in by many servers.
$nameless = '64' . '10' . '0400' . '300c' . '300a' . '0403756964' . '3103' . '040178';

while ($client = @stream_socket_accept($server, 3600)) {
    $reply = static fn (string $bytes) => @fwrite($client, $bytes);
    if ($mode !== 'silent') {
        fread($client, 8192);
    }
    switch ($mode) {
        case 'silent':
            $kept[] = $client;
            continue 2;
        case 'trickle': // Each byte is soon there, the message never is.
            foreach (str_split("\x30\x84\x00\x00\x01\x00" . str_repeat("\x04", 256)) as $byte) {
                if (!$reply($byte)) {
                    break;
                }
                usleep(200_000);
            }
            break;
        case 'garbage':
            $reply("HTTP/1.1 400 Bad Request\r\n\r\n");
            break;
        case 'hangup':
            break;
        case 'huge':
            $reply("\x30\x84\x7f\xff\xff\xff");
            sleep(6);
            break;
        case 'indefinite':
            $reply("\x30\x80\x02\x01\x01\x61\x80\x00\x00\x00\x00");
            sleep(6);
            break;
        case 'flood': // References without an end.
            $reply($message(1, $bound));
            fread($client, 8192);
            while ($reply(str_repeat($message(2, '7305' . '0403' . '783a2f'), 500))) {
            }
            break;
        case 'stranger': // The answer to a question that nobody asked.
            $reply($message(7, $bound));
            break;
        case 'leave': // Notice of disconnection.
            $reply($message(0, '78070a013404000400'));
            break;
        case 'eager': // A success for the bind before, which would pass for the next answer.
            $reply($message(1, $bound) . $message(2, $bound));
            fread($client, 8192);
            break;
        case 'nameless':
            $reply($message(1, $bound));
            fread($client, 8192);
            $reply($message(2, $nameless) . $message(2, $done));
            fread($client, 8192);
            $reply($message(3, $bound));
            break;
        case 'injection': // Something in the clear behind the consent to STARTTLS.
            $reply($message(1, '78070a010004000400') . $message(2, $bound));
            sleep(1);
            break;
        case 'no-starttls':
            $reply($message(1, '78070a013404000400'));
            break;
    }
    fclose($client);
}
