<?php
$hit = ['site' => $_GET['idsite'] ?? '', 'url' => $_GET['url'] ?? '', 'title' => $_GET['action_name'] ?? ''];
file_put_contents('/var/lib/statistics/hits', json_encode($hit, JSON_UNESCAPED_SLASHES) . "\n", FILE_APPEND | LOCK_EX);
header('Content-Type: image/gif');
echo base64_decode('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7');
