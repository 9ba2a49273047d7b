locals {
  hosts = var.image_id == "" ? 0 : 1
  # cloud-init: the program, checked against its hash. Tokens are no part of user data: whoever is on the instance could read them.
  install     = <<-EOT
    #!/bin/sh
    set -eu
    curl --proto '=https' --fail --location --output /usr/local/bin/openmigrate.new '${var.program_url}'
    echo '${var.program_sha256}  /usr/local/bin/openmigrate.new' | sha256sum --check
    chmod 755 /usr/local/bin/openmigrate.new
    mv /usr/local/bin/openmigrate.new /usr/local/bin/openmigrate
  EOT
  master_unit = <<-EOT
    cat > /etc/systemd/system/openmigrate-master.service <<'UNIT'
    [Unit]
    Description=OpenMigrate master
    After=network-online.target
    Wants=network-online.target
    [Service]
    StateDirectory=openmigrate
    ExecStart=/usr/local/bin/openmigrate master --data-dir /var/lib/openmigrate --listen :${var.port} --staging s3://${var.bucket}?region=${data.aws_region.here.name}&credentials=role
    Restart=on-failure
    [Install]
    WantedBy=multi-user.target
    UNIT
    systemctl enable --now openmigrate-master
  EOT
}

resource "aws_security_group" "master" {
  name        = "${var.name}-master"
  description = "OpenMigrate master: agents, people and hydrators reach its one port"
  vpc_id      = var.vpc_id
  tags        = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each          = toset(var.clients)
  security_group_id = aws_security_group.master.id
  cidr_ipv4         = strcontains(each.value, ":") ? null : each.value
  cidr_ipv6         = strcontains(each.value, ":") ? each.value : null
  from_port         = var.port
  to_port           = var.port
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "hydrators" {
  security_group_id            = aws_security_group.master.id
  referenced_security_group_id = aws_security_group.hydrator.id
  from_port                    = var.port
  to_port                      = var.port
  ip_protocol                  = "tcp"
}

resource "aws_security_group" "hydrator" {
  name        = "${var.name}-hydrator"
  description = "OpenMigrate hydrator: opens no port"
  vpc_id      = var.vpc_id
  tags        = local.tags
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = { master = aws_security_group.master.id, hydrator = aws_security_group.hydrator.id }
  security_group_id = each.value
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_instance" "master" {
  count                   = local.hosts
  ami                     = var.image_id
  instance_type           = var.master_type
  subnet_id               = var.subnet_id
  vpc_security_group_ids  = [aws_security_group.master.id]
  iam_instance_profile    = aws_iam_instance_profile.master.name
  disable_api_termination = true
  user_data               = "${local.install}${local.master_unit}"
  tags                    = merge(local.tags, { Name = "${var.name}-master" })
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  root_block_device {
    volume_type = "gp3"
    volume_size = 40
    encrypted   = true
    kms_key_id  = var.kms_key_arn == "" ? null : var.kms_key_arn
  }
  lifecycle {
    ignore_changes = [ami, user_data] # the data directory is on it: it is not to be replaced by accident
    precondition {
      condition     = startswith(var.program_url, "https://") && can(regex("^[0-9a-f]{64}$", var.program_sha256))
      error_message = "With image_id set, program_url and program_sha256 are needed."
    }
  }
}

resource "aws_launch_template" "hydrator" {
  count                  = local.hosts
  name                   = "${var.name}-hydrator"
  image_id               = var.image_id
  instance_type          = var.hydrator_type
  update_default_version = true
  user_data              = base64encode(local.install)
  tags                   = local.tags
  iam_instance_profile {
    name = aws_iam_instance_profile.hydrator.name
  }
  network_interfaces {
    subnet_id             = var.subnet_id
    security_groups       = [aws_security_group.hydrator.id]
    delete_on_termination = true
  }
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  dynamic "instance_market_options" {
    for_each = var.hydrator_spot ? [1] : []
    content {
      market_type = "spot"
    }
  }
  # The master attaches volumes only to instances with this tag.
  tag_specifications {
    resource_type = "instance"
    tags          = merge(local.tags, { Name = "${var.name}-hydrator", "openmigrate:hydrator" = var.name })
  }
}
