"""The words of a report's page, in English and Chinese."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PAGE_WORDS", "PageWords"]


@dataclass(frozen=True, slots=True)
class PageWords:
    """One language: names of figures, of outcomes, of what stands around them."""

    language: str
    text: Mapping[str, str]
    metric: Mapping[str, str]
    outcome: Mapping[str, str]
    plot: Mapping[str, str]
    unit_of_n: Mapping[str, str]
    method: Mapping[str, str]


ENGLISH = PageWords(
    language="en",
    text={
        "title": "Evaluation of {name} {version}",
        "made": "Made {at} by Wetread {node}",
        "warning": "Figures of this application on these cases only. They are no claim of how it does elsewhere, and "
        "no approval to use it.",
        "what": "What was evaluated", "application": "Application", "version": "Version", "basis": "Basis",
        "code": "SHA-256 of code and manifests", "weights": "Model", "parameters": "Operating point",
        "data": "Cases", "studies": "Studies in the folder", "labelled": "Labelled and read or tried",
        "unlabelled": "Without a label, left aside", "missing": "Labelled, but without images",
        "patients": "Patients", "other_files": "Files that are no images", "unreadable": "Files that cannot be read",
        "time": "Time a study, median and longest", "labels": "SHA-256 of the labels",
        "any_kind": "Any abnormal finding", "kind": "Finding: {kind}",
        "table": "Every case, by what is true and what was said", "truth": "Truth",
        "positive": "positive", "negative": "negative", "unlabelled_truth": "not labelled so", "total": "total",
        "figures": "Figures", "figure": "Figure", "value": "Value", "interval": "95 % interval", "n": "Counted on",
        "method": "Interval by", "scanners": "By scanner", "scanner": "Scanner", "cases_word": "cases",
        "tiers": "By tier of certainty: how often it was so", "tier": "Tier",
        "high": "high", "medium": "medium", "review": "review",
        "not_read": "Why cases were not read", "outcome": "Outcome", "reason": "Reason", "count": "Cases",
        "comparison": "Compared with {name} {version} on the same cases", "first": "{name} {version}",
        "difference": "Difference", "test": "p (test)",
        "removal": "Lesion removal", "removal_text": "Healthy tissue was put in place of each labelled lesion. Of {n} "
        "found before, {gone} were no longer found. Cases not read any more afterwards: {not_read}.",
        "wrong": "Wrong anatomy", "wrong_text": "Of {n} studies of something else, {refused} were refused. Read all "
        "the same: {read}; with a finding: {false}.",
        "wrong_cases": "Numbers of those read, in the key of the wrong-anatomy folder",
        "wrong_bad": "An application that answers to the wrong anatomy must not run without a rule that keeps it away.",
        "cases": "Every case", "case": "Case", "patient": "Patient", "score": "Score", "said": "Said",
        "called": "finding", "silent": "no finding", "lesions": "Lesions found", "marks": "False marks",
        "how": "How to read this",
        "how_text": "The unit is the patient: several studies of one patient are not independent, and the intervals "
        "know it. Proportions have the exact interval (Clopper and Pearson, with fewer effective cases where patients "
        "have several), because the bootstrap calls 20 out of 20 certain. Areas under the curve have that of DeLong, "
        "all else the bootstrap over patients ({count} resamples, seed {seed}). Figures marked “all cases” count a "
        "case that was not read as a wrong answer (intention to diagnose). A finding hits a lesion if its middle lies "
        "in the labelled box; beyond the last mark an FROC curve stays level. Predictive values hold for the share of "
        "positives in these data only. Of so many figures one in twenty misses its interval by chance: the one that "
        "decides is to be named before. A dash means that the data cannot say. Case numbers are pseudonymous; their "
        "key stays in the working folder.",
        "few": "Only {n} patients: the intervals are wide, and no figure here decides anything.",
        "none": "none", "yes": "yes", "no": "no", "map": "mAP over all kinds", "s": "s",
    },
    metric={
        "evaluable": "Evaluable", "sensitivity": "Sensitivity", "specificity": "Specificity",
        "sensitivity_all": "Sensitivity, all cases", "specificity_all": "Specificity, all cases",
        "ppv": "Positive predictive value", "npv": "Negative predictive value", "auc": "Area under the ROC curve",
        "lesion_sensitivity": "Lesions found", "lesion_sensitivity_all": "Lesions found, all cases",
        "false_marks_per_case": "False marks per case", "froc": "Lesions found at false marks per case of",
        "ap": "Average precision,", "dice_mean": "Dice, mean:", "dice_median": "Dice, median:",
        "hd95_median": "HD95, median:", "bias": "Measured less true, mean:", "limit_low": "Lower limit of agreement:",
        "limit_high": "Upper limit of agreement:", "error_median": "Error, median:",
        "pointing": "Heat map: peak in the lesion", "energy_inside": "Heat map: share of heat in the lesion",
        "area_inside": "Heat map: share of the image that is lesion",
        "wrong_anatomy_refused": "Wrong anatomy refused", "lesion_removal_vanished": "Gone after lesion removal",
        "missing_share": "Labelled studies without images", "true_share": "So said and so",
    },
    outcome={"read": "read", "not_evaluable": "not evaluable", "failed": "failed", "not_taken": "not taken",
             "missing": "no images", "called": "finding", "silent": "no finding"},
    plot={"roc": "ROC curve", "froc": "FROC curve with its 95 % band", "reliability": "Reliability of the certainty",
          "agreement": "Agreement", "scanners": "Sensitivity by scanner", "operating_point": "operating point",
          "false_rate": "1 - specificity", "true_rate": "sensitivity", "false_marks": "false marks per case",
          "lesions_found": "share of lesions found", "said": "probability said", "observed": "share that was so",
          "mean_of_both": "mean of measured and true", "difference": "measured less true"},
    unit_of_n={"cases": "cases", "lesions": "lesions", "marks": "marks", "heat_maps": "heat maps"},
    method={"exact": "exact", "delong": "DeLong", "bootstrap": "bootstrap", "": "-"},
)  # fmt: skip
CHINESE = PageWords(
    language="zh",
    text={
        "title": "{name} {version} 性能评估报告",
        "made": "生成时间 {at}，Wetread {node}",
        "warning": "以下指标仅代表该应用在本批病例上的表现，不代表在其他数据上的性能，也不构成使用许可。",
        "what": "评估对象", "application": "应用", "version": "版本", "basis": "算法类型",
        "code": "代码与模型清单的 SHA-256", "weights": "模型", "parameters": "工作点",
        "data": "病例", "studies": "文件夹内检查数", "labelled": "有标注且已读取或尝试读取",
        "unlabelled": "无标注，未纳入", "missing": "有标注但无图像",
        "patients": "患者数", "other_files": "非图像文件", "unreadable": "无法读取的文件",
        "time": "单个检查耗时（中位数、最长）", "labels": "标注文件的 SHA-256",
        "any_kind": "任一异常发现", "kind": "发现：{kind}",
        "table": "全部病例：真实情况与应用结论", "truth": "真实情况",
        "positive": "阳性", "negative": "阴性", "unlabelled_truth": "无阴阳性标注", "total": "合计",
        "figures": "指标", "figure": "指标", "value": "数值", "interval": "95% 置信区间", "n": "统计基数",
        "method": "区间方法", "scanners": "按设备分组", "scanner": "设备", "cases_word": "例",
        "tiers": "按可信度分级：结论属实的比例", "tier": "分级",
        "high": "高", "medium": "中", "review": "需人工复核",
        "not_read": "未能读取的原因", "outcome": "结果", "reason": "原因", "count": "病例数",
        "comparison": "与 {name} {version} 在相同病例上的配对比较", "first": "{name} {version}",
        "difference": "差值", "test": "p 值（检验）",
        "removal": "病灶移除试验", "removal_text": "将每个已标注病灶替换为健康组织后重新分析：原先检出 {n} 个，"
        "其中 {gone} 个不再检出。移除后无法评估的病例：{not_read} 例。",
        "wrong": "错误部位试验", "wrong_text": "共 {n} 个其他部位的检查，其中 {refused} 个被拒绝；仍被读取 {read} 个，"
        "其中给出发现 {false} 个。",
        "wrong_cases": "仍被读取者的编号（见错误部位文件夹的对照表）",
        "wrong_bad": "对错误部位作出结论的应用，若无规则将此类检查排除，不得投入运行。",
        "cases": "全部病例", "case": "病例", "patient": "患者", "score": "评分", "said": "结论",
        "called": "有发现", "silent": "无发现", "lesions": "检出病灶", "marks": "假阳性标记",
        "how": "阅读说明",
        "how_text": "统计单位为患者：同一患者的多次检查并非相互独立，区间已考虑这一点。比例采用精确区间"
        "（Clopper-Pearson，同一患者有多次检查时按有效样本量折减），因为自助法会把 20 例全对误作确定无疑。"
        "曲线下面积采用 DeLong 法，其余按患者自助重抽样（{count} 次，随机种子 {seed}）。"
        "标有“全部病例”的指标将未能读取的病例计为错误（诊断意向原则）。标记中心落在标注框内即为命中病灶；"
        "FROC 曲线在最后一个标记之后保持水平。预测值仅适用于本批数据的阳性比例。"
        "指标众多，约二十分之一会因偶然超出区间，用于决策的指标须事先指定。"
        "“-”表示数据不足以给出结论。病例编号为假名，对照表仅保存在工作文件夹中。",
        "few": "仅有 {n} 名患者：置信区间很宽，此处任何指标都不足以作出决定。",
        "none": "无", "yes": "是", "no": "否", "map": "全部类别的 mAP", "s": "秒",
    },
    metric={
        "evaluable": "可评估比例", "sensitivity": "灵敏度", "specificity": "特异度",
        "sensitivity_all": "灵敏度（全部病例）", "specificity_all": "特异度（全部病例）",
        "ppv": "阳性预测值", "npv": "阴性预测值", "auc": "ROC 曲线下面积",
        "lesion_sensitivity": "病灶检出率", "lesion_sensitivity_all": "病灶检出率（全部病例）",
        "false_marks_per_case": "每例假阳性标记数", "froc": "病灶检出率，每例假阳性数为",
        "ap": "平均精度，", "dice_mean": "Dice 均值：", "dice_median": "Dice 中位数：",
        "hd95_median": "HD95 中位数：", "bias": "测量值减真值，均值：", "limit_low": "一致性下限：",
        "limit_high": "一致性上限：", "error_median": "误差中位数：",
        "pointing": "热图：峰值落在病灶内", "energy_inside": "热图：病灶内热量占比",
        "area_inside": "热图：病灶占图像面积比例",
        "wrong_anatomy_refused": "错误部位拒绝率", "lesion_removal_vanished": "病灶移除后消失率",
        "missing_share": "有标注但无图像的检查", "true_share": "结论属实",
    },
    outcome={"read": "已读取", "not_evaluable": "无法评估", "failed": "分析失败", "not_taken": "未受理",
             "missing": "无图像", "called": "有发现", "silent": "无发现"},
    plot={"roc": "ROC 曲线", "froc": "FROC 曲线及 95% 置信带", "reliability": "可信度校准曲线",
          "agreement": "一致性", "scanners": "各设备的灵敏度", "operating_point": "工作点",
          "false_rate": "1 - 特异度", "true_rate": "灵敏度", "false_marks": "每例假阳性标记数",
          "lesions_found": "病灶检出率", "said": "给出的概率", "observed": "实际属实的比例",
          "mean_of_both": "测量值与真值的均值", "difference": "测量值减真值"},
    unit_of_n={"cases": "例", "lesions": "个病灶", "marks": "个标记", "heat_maps": "幅热图"},
    method={"exact": "精确法", "delong": "DeLong", "bootstrap": "自助法", "": "-"},
)  # fmt: skip
PAGE_WORDS: Mapping[str, PageWords] = {"en": ENGLISH, "zh": CHINESE}
